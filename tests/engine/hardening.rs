//! Hardening, seen from inside a container and from outside.

use skep::tree::Egress;

use crate::world::{World, inspect};

#[tokio::test]
async fn an_instance_has_no_more_than_it_needs() {
    let world = World::get();
    let served = world.serve("hardened", Egress::Internet).await;
    let inside = served.get("/inside").await;
    assert_eq!((&inside["uid"], &inside["gid"]), (&10_001.into(), &10_001.into()));
    assert_eq!(inside["groups"], serde_json::json!([10_001]));
    for set in inside["capabilities"].as_array().unwrap() {
        assert_eq!(set, "0000000000000000");
    }
    assert_eq!(inside["no_new_privileges"], "1");
    assert_eq!(inside["seccomp"], "2", "the engine's filter is on");
    assert!(inside["root"].as_str().unwrap().starts_with("ro,"), "{inside}");
    assert_eq!(inside["writable"], serde_json::json!([]));
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(inside["tmp"].as_str().unwrap().contains(option), "{inside}");
    }
    assert_eq!((&inside["tmp_is_writable"], &inside["tmp_is_bounded"]), (&true.into(), &true.into()));
    assert_eq!(inside["tmp_bytes"], 16 << 20);
    assert!(inside["first"].as_str().unwrap().contains("init"), "{inside}");
    assert_eq!(inside["ipv6"], serde_json::json!([]), "no second way out");
    assert_eq!(inside["prefix"], "/opt/venv");
    assert_eq!(inside["compiled"], true);
    let environment = inside["environment"].to_string();
    for word in ["UV_", "PIP_", "INDEX"] {
        assert!(!environment.contains(word), "{environment}");
    }
    let threads = served.get("/threads").await["count"].as_u64().unwrap();
    assert!(threads < 64, "{threads} threads within a limit of 64");

    let host = inspect(&served.container).await.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
    assert_eq!((host.cpu_quota, host.cpu_period, host.pids_limit), (Some(20_000), Some(20_000), Some(64)));
    assert!(host.cpu_shares.unwrap() < 1024, "services of the host go first");
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.binds.unwrap_or_default(), Vec::<String>::new());
    assert!(host.mounts.unwrap_or_default().is_empty());
    assert!(host.port_bindings.unwrap_or_default().is_empty(), "the host dials the container's address");
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-size"], "5m");
    assert_eq!(host.ipc_mode.as_deref(), Some("private"));
}
