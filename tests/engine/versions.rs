//! Versions: what is installed, what the index would give, and nothing of a package that runs to tell.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, LogsOptions, RemoveContainerOptions, WaitContainerOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use skep::engine::{Engine, Install, Progress};
use skep::settings::Dial;

use crate::world::{World, engine, requirements, settings};

/// The image that everything of this installation stands on.
async fn runtime(world: &World) -> String {
    let base = world.docker.base(&Progress::silent()).await.unwrap();
    format!("skep/runtime:{}", base.digest.short())
}

/// Runs a Python script as an installer would run, with the installer's cache, and says what it printed.
async fn python(world: &World, script: &str) -> String {
    let body = ContainerCreateBody {
        image: Some(runtime(world).await),
        user: Some("10001:10001".to_owned()),
        entrypoint: Some(vec!["/opt/skep/tools/bin/python".to_owned(), "-c".to_owned(), script.to_owned()]),
        cmd: Some(Vec::new()),
        host_config: Some(HostConfig {
            binds: Some(vec![format!("skep-{}-uv-cache:/opt/skep/cache", world.owner)]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let id = engine().create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    engine().start_container(&id, None).await.unwrap();
    let ended = engine().wait_container(&id, None::<WaitContainerOptions>).next().await;
    let options = LogsOptions { stdout: true, stderr: true, ..LogsOptions::default() };
    let said: Vec<_> = engine().logs(&id, Some(options)).try_collect().await.unwrap();
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    engine().remove_container(&id, Some(options)).await.unwrap();
    let said: String = said.iter().map(ToString::to_string).collect();
    assert!(matches!(ended, Some(Ok(_))), "{said}");
    said
}

#[tokio::test]
async fn what_is_installed_is_told_apart_from_what_the_index_would_give() {
    let world = World::get();
    let job = Install { tag: world.tag("deps:versions"), requirements: requirements(&["anyio==4.4.0", "idna==3.7"]) };
    world.docker.install(&job, &Progress::silent()).await.unwrap();
    let installed = world.docker.installed(&job.tag).await.unwrap();
    assert_eq!((&*installed.0["anyio"], &*installed.0["idna"]), ("4.4.0", "3.7"), "{installed:?}");
    assert!(installed.0.contains_key("sniffio"), "{installed:?}");
    let resolved = world.docker.resolve(&requirements(&["anyio==4.4.0", "idna"])).await.unwrap();
    assert_eq!(resolved.0["anyio"], "4.4.0", "{resolved:?}");
    assert_ne!(resolved.0["idna"], "3.7", "{resolved:?}");
    assert_eq!(resolved.0.keys().collect::<Vec<_>>(), installed.0.keys().collect::<Vec<_>>());
    let error = world.docker.resolve(&requirements(&["idna==99.99"])).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot install idna==99.99: the package index has no such version");
    world.docker.remove_image(&job.tag).await.unwrap();
    world.docker.installed(&job.tag).await.unwrap_err();
    assert_eq!(world.build_containers().await, Vec::<String>::new());
}

/// A wheel whose scripts are called as what an installer may want to run, each of which says that it ran, and fails.
const WHEEL: &str = r##"
import os, zipfile
folder = "/opt/skep/cache/index/simple/evil"
os.makedirs(folder)
with open(folder + "/index.html", "w") as index:
    index.write('<!DOCTYPE html><a href="evil-1.0-py3-none-any.whl">evil-1.0-py3-none-any.whl</a>')
script = "#!/bin/sh\n/bin/mkdir /opt/skep/cache/ran\nexit 7\n"
with zipfile.ZipFile(folder + "/evil-1.0-py3-none-any.whl", "w") as wheel:
    names = ["sh", "sleep", "ls", "cat", "cp", "readlink", "env", "python", "python3", "uv"]
    for name in names:
        wheel.writestr("evil-1.0.data/scripts/" + name, script)
    wheel.writestr("evil.pth", "import os; os.mkdir('/opt/skep/cache/ran')\n")
    wheel.writestr("evil.py", "")
    info = "evil-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    files = ["evil.pth", "evil.py", info + "METADATA", info + "WHEEL", info + "RECORD"]
    files += ["evil-1.0.data/scripts/" + name for name in names]
    wheel.writestr(info + "RECORD", "".join(name + ",,\n" for name in files))
"##;

#[tokio::test]
async fn no_script_of_a_package_runs_whatever_it_is_called() {
    let mut settings = settings(Dial::Auto);
    settings.build.index_url = Some("file:///opt/skep/cache/index/simple".to_owned());
    let world = World::alone(settings);
    python(&world, WHEEL).await;
    let job = Install { tag: world.tag("deps:evil"), requirements: requirements(&["evil"]) };
    world.docker.install(&job, &Progress::silent()).await.unwrap();
    let found = python(&world, "import os; print(sorted(os.listdir('/opt/skep/cache')))").await;
    assert!(found.contains("'index'") && !found.contains("'ran'"), "{found}");
    // What is on top of the image finds its way around the scripts too.
    let expected = BTreeMap::from([("evil".to_owned(), "1.0".to_owned())]);
    assert_eq!(world.docker.installed(&job.tag).await.unwrap().0, expected);
    // That they are there, and would run where one is called by its name.
    let body = ContainerCreateBody {
        image: Some(job.tag.to_string()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec!["0".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let id = engine().create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    engine().start_container(&id, None).await.unwrap();
    let ended = engine().wait_container(&id, None::<WaitContainerOptions>).next().await;
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    engine().remove_container(&id, Some(options)).await.unwrap();
    let ended = format!("{ended:?}");
    assert!(ended.contains("code: 7"), "{ended}");
}

/// Takes the installer out of the image, as somebody has it who installed it.
async fn uv(world: &World, into: &Path) {
    let body = ContainerCreateBody { image: Some(runtime(world).await), ..ContainerCreateBody::default() };
    let id = engine().create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let options = DownloadFromContainerOptions { path: "/opt/skep/tools/bin/uv".to_owned() };
    let bytes: Vec<_> = engine().download_from_container(&id, Some(options)).try_collect().await.unwrap();
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    engine().remove_container(&id, Some(options)).await.unwrap();
    tar::Archive::new(&bytes.concat()[..]).unpack(into).unwrap();
    assert!(into.join("uv").is_file());
}

#[tokio::test]
async fn a_plan_of_two_commits_says_which_packages_move_where_there_is_a_resolver() {
    let world = World::get();
    let folder = tempfile::tempdir().unwrap();
    let (bin, root) = (folder.path().join("bin"), folder.path().join("root"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(root.join("apis/a")).unwrap();
    uv(&world, &bin).await;
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(&root).args(["-c", "user.name=Ada", "-c", "user.email=ada@bees.test"]).args(arguments);
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    };
    let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
    let commit = |requirements: &str| {
        write("apis/a/requirements.txt", requirements);
        git(&["add", "-A"]);
        git(&["commit", "--quiet", "-m", "Go on"]);
    };
    let plan = |path: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.current_dir(&root).args(["plan", "--base", "HEAD~1"]).args(more).env("PATH", path);
        command.env_remove("SKEP_ROOT").env("DOCKER_HOST", "tcp://127.0.0.1:1").env("NO_COLOR", "1");
        let done = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(done.stdout), text(done.stderr), done.status.code())
    };
    let path = std::env::var("PATH").unwrap();
    let (with, git_alone) = (format!("{}:{path}", bin.display()), folder.path().join("git-alone"));
    std::fs::create_dir(&git_alone).unwrap();
    for name in ["git", "sh", "tar"] {
        let found = path.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, git_alone.join(name)).unwrap();
    }
    git(&["init", "--quiet", "--initial-branch", "main"]);
    write("apis/a/main.py", "from fastapi import FastAPI\n\napp = FastAPI()\n");
    commit("idna==3.7\nfastapi<0.120\n");
    commit("idna==3.10\nitsdangerous==2.2.0\nfastapi<0.120\n");
    let (text, said, code) = plan(&with, &[]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    for line in ["requirement idna==3.7 → idna==3.10", "↑ idna 3.7 → 3.10", "+ itsdangerous 2.2.0"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("packages: 1 added, 1 upgraded; new instances take over"), "{text}");
    let markdown = plan(&with, &["--output", "markdown"]).0;
    assert!(
        markdown.contains("- ↑ idna 3.7 → 3.10") && markdown.contains("packages: 1 added, 1 upgraded"),
        "{markdown}"
    );

    // Back again, and then what comes to the same.
    commit("idna==3.7\nfastapi<0.120\n");
    let (text, ..) = plan(&with, &[]);
    assert!(text.contains("↓ idna 3.10 → 3.7") && text.contains("- itsdangerous 2.2.0"), "{text}");
    commit("idna==3.7\nfastapi<0.120,>=0.1\n");
    assert!(plan(&with, &[]).0.contains("packages: the same as now"), "{text}");

    // What cannot be installed is known before anybody deploys it.
    commit("idna==99.99\n");
    let (text, _, code) = plan(&with, &[]);
    let why = "packages  not compared: cannot install idna==99.99: the package index has no such version";
    assert!(text.contains(why) && code == Some(0), "{text}");
    // And without a resolver it is said that there is none.
    let (text, ..) = plan(git_alone.to_str().unwrap(), &["--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["apis"][0]["packages"]["state"], "unknown", "{text}");
    assert!(plan["apis"][0]["packages"]["why"].as_str().unwrap().contains("there is no uv in the PATH"), "{text}");
}
