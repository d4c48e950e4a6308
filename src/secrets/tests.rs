//! Keys and secrets: what is written is read again, and nothing is shown.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::tree::Sealed;

fn opened(secrets: &[(&str, &str)]) -> Opened {
    let mut opened = Opened::default();
    for (name, value) in secrets {
        opened.set(name, (*value).to_owned()).unwrap();
    }
    opened
}

fn api() -> ApiId {
    ApiId::new("honey").unwrap()
}

#[test]
fn what_was_encrypted_for_one_api_is_not_given_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::of(folder.path());
    let sealed = Keyring::seal(&api(), &opened(&[("A", "hunter2")]), &[keyring.make().unwrap()]).unwrap();
    let error = keyring.open(&ApiId::new("other").unwrap(), &sealed).unwrap_err();
    assert!(matches!(&error, SecretsError::Elsewhere(id) if *id == api()), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(keyring.open_any(&sealed).unwrap(), opened(&[("A", "hunter2")]));
}

#[test]
fn whatever_a_secret_is_it_is_read_as_it_was_written() {
    for value in [
        "plain",
        "0123",
        "true",
        "null",
        " spaces around ",
        "a: b # c",
        "quo\"te's \\ and $VARS ${A}",
        "-----BEGIN KEY-----\nabc+/=\ndef\n-----END KEY-----\n",
        "two\nlines",
        "two\nlines\n\n",
        "  indented\n  lines\n",
        "one\n\n two\n",
        "# no comment\n- nor list\n",
        "tab\tand\r\nreturn\u{1b}\u{7f}\u{85}\u{2028}\u{feff}",
        "ünïcödé 🐝",
        "{not: a map}",
        "|",
        "---\n...\n",
    ] {
        let secrets = opened(&[("A", value), ("Z", "last")]);
        let text = secrets.text();
        let again = Opened::parse(&text);
        assert!(again.is_ok_and(|again| again == secrets), "{value:?} is written as {:?}", *text);
    }
    assert_eq!(Opened::parse("").unwrap(), Opened::default());
    assert_eq!(
        Opened::parse("A: 0123\nB: yes\nC: |\n  x\n  y\n").unwrap(),
        opened(&[("A", "0123"), ("B", "yes"), ("C", "x\ny\n")])
    );
}

#[test]
fn what_is_no_secret_is_refused_without_a_word_of_its_value() {
    for (text, expected) in [
        ("A: fine\nhunter2\n", "line 2"),
        ("A: [hunter2]\n", "line 1"),
        ("A: hunter2\nA: hunter2\n", "line 2"),
        ("A: &x hunter2\nB: *x\n", "line 1"),
        ("A: 'hunter2\n", "line"),
        (
            "A: fine\n1A: hunter2\n",
            "line 2 of what is encrypted in it cannot be handed over: a name begins with a letter",
        ),
        ("A: fine\n\nhunter2-x: fine\n", "line 3 of what is encrypted in it"),
        ("A: fine\nhunter2: ''\n", "line 2 of what is encrypted in it"),
        ("LD_PRELOAD: hunter2\n", "line 1 of what is encrypted in it cannot be handed over: it changes which code"),
        ("API_ID: hunter2\n", "skep sets it to the id"),
        ("A: \"hunter2\\0\"\n", "it holds a NUL"),
        ("A: ''\n", "it is empty"),
    ] {
        let error = Opened::parse(text).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{text:?}: {said}");
    }
    let mut many = Opened::default();
    let long = "x".repeat(32 * 1024);
    assert!((0..3).all(|n| many.set(&format!("A{n}"), long.clone()).is_ok()));
    assert!(many.set("B", format!("{long}x")).is_err());
    assert!((4..9).any(|n| many.set(&format!("A{n}"), long.clone()).is_err()));
    assert!(!format!("{:?}", opened(&[("A", "hunter2")])).contains("hunter2"));
}

#[test]
fn a_key_is_made_once_is_for_its_owner_alone_and_opens_what_was_encrypted_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::of(folder.path());
    let sealed = Keyring::seal(&api(), &opened(&[("A", "hunter2")]), &["age1nobody".to_owned()]);
    assert!(matches!(sealed, Err(SecretsError::NoRecipient(_))));
    assert!(matches!(keyring.recipient(), Err(SecretsError::NoKey(_))));
    let recipient = keyring.make().unwrap();
    assert_eq!(keyring.make().unwrap(), recipient);
    assert_eq!(std::fs::metadata(keyring.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = Keyring::seal(&api(), &opened(&[("A", "hunter2")]), std::slice::from_ref(&recipient)).unwrap();
    assert!(!sealed.text().contains("hunter2") && !format!("{sealed:?}").contains("BEGIN"));
    assert_eq!(keyring.open(&api(), &sealed).unwrap(), opened(&[("A", "hunter2")]));
    // Encrypted anew it is another text.
    assert_ne!(Keyring::seal(&api(), &opened(&[("A", "hunter2")]), std::slice::from_ref(&recipient)).unwrap(), sealed);

    let held = keyring.hold(|| panic!("nobody else is at it")).unwrap();
    let new = keyring.renew(&held).unwrap();
    assert_eq!((keyring.recipient().unwrap(), keyring.recipients().unwrap()), (new.clone(), vec![new, recipient]));
    assert!(keyring.open(&api(), &sealed).is_ok(), "the old key opens it still");
    let anew = Keyring::seal(&api(), &opened(&[("A", "b")]), &[keyring.recipient().unwrap()]).unwrap();
    assert_eq!([&sealed, &anew, &Sealed::of("x")].map(|one| keyring.needs_old(one).unwrap()), [true, false, false]);
    let (old, kept) = keyring.forget_old(&held).unwrap().unwrap();
    assert_eq!((old, keyring.forget_old(&held).unwrap()), (1, None));
    assert!(matches!(keyring.open(&api(), &sealed), Err(SecretsError::WrongKey(_))));
    // Forgotten in error, it is brought back by its name alone; the next one does not take its place.
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    keyring.renew(&held).unwrap();
    let (_, next) = keyring.forget_old(&held).unwrap().unwrap();
    assert_ne!(next, kept);
    std::fs::rename(kept, keyring.path()).unwrap();
    assert!(keyring.open(&api(), &sealed).is_ok());
}

#[test]
fn whoever_makes_the_first_key_at_once_gets_the_same_one() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::of(folder.path());
        let start = std::sync::Barrier::new(8);
        let make = || {
            start.wait();
            keyring.make().unwrap()
        };
        let made: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = keyring.recipient().unwrap();
        assert!(made.iter().all(|one| *one == kept), "{made:?} are given out, and {kept} is kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
    }
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused_by_its_place_alone() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::of(folder.path());
    keyring.make().unwrap();
    std::fs::set_permissions(keyring.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(keyring.recipient(), Err(SecretsError::Exposed(_))));
    std::fs::set_permissions(keyring.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(keyring.path(), "# a note\nAGE-SECRET-KEY-1HUNTER2\n").unwrap();
    let error = keyring.recipient().unwrap_err();
    assert!(
        matches!(&error, SecretsError::BadKey { line: 2, .. }) && !error.to_string().contains("HUNTER2"),
        "{error}"
    );
}

#[test]
fn a_damaged_text_is_said_to_be_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::of(folder.path());
    let sealed = Keyring::seal(&api(), &opened(&[("A", &"long ".repeat(100))]), &[keyring.make().unwrap()]).unwrap();
    let mut lines: Vec<&str> = sealed.text().lines().collect();
    let flipped: String = lines[lines.len() - 4].chars().rev().collect();
    let place = lines.len() - 4;
    lines[place] = &flipped;
    let damaged = Sealed::of(&lines.join("\n"));
    assert!(matches!(keyring.open(&api(), &damaged), Err(SecretsError::Damaged)));
    assert!(matches!(keyring.open(&api(), &Sealed::of("nonsense")), Err(SecretsError::Damaged)));
}

#[test]
fn a_file_that_is_not_encrypted_is_refused_and_not_shown() {
    let read = |text: &str| {
        let mut findings = Vec::new();
        let sealed = Sealed::read("apis/a/secrets.age", text, &mut findings);
        assert_eq!(sealed.is_none(), findings.len() == 1, "{findings:?}");
        format!("{findings:?}")
    };
    for text in ["TOKEN: hunter2\n", "-----BEGIN AGE ENCRYPTED FILE-----\nhunter2\n-----END AGE ENCRYPTED FILE-----\n"]
    {
        let said = read(text);
        assert!(said.contains("bad-secrets") && !said.contains("hunter2"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let sealed = Keyring::seal(&api(), &opened(&[("A", "b")]), &[Keyring::of(folder.path()).make().unwrap()]).unwrap();
    assert_eq!(read(sealed.text()), "[]");
    assert!(read(&sealed.text()[..80]).contains("bad-secrets"));
}

#[test]
fn recipients_are_lines_and_a_line_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read_recipients(folder.path()).unwrap(), Vec::<String>::new());
    let one = Keyring::of(folder.path()).make().unwrap();
    std::fs::write(folder.path().join(RECIPIENTS), format!("# who\n\n{one}  # the installation\n")).unwrap();
    assert_eq!(read_recipients(folder.path()).unwrap(), [one]);
    std::fs::write(folder.path().join(RECIPIENTS), "age1x\n").unwrap();
    assert!(read_recipients(folder.path()).unwrap_err().to_string().contains("secrets.pub:1 is no key"));
}
