//! Configuration, start and stop.

use crate::harness::{Node, command, run};

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "[listen]\ngrcp = \"127.0.0.1:0\"\n").unwrap();
    let error = run(&mut command(&["server", "--config", file.to_str().unwrap()]), b"").fails_with(2);
    assert!(error.contains("listen.grcp") && error.contains("listen.grpc"), "{error}");
    let mut with_variable = command(&["dev"]);
    let error = run(with_variable.env("SUNSEO_NODE__DATADIR", "x"), b"").fails_with(2);
    assert!(error.contains("SUNSEO_NODE__DATADIR") && error.contains("node.data_dir"), "{error}");
    let error = run(&mut command(&["dev", "--set", "engine.threads=many"]), b"").fails_with(2);
    assert!(error.contains("engine.threads") && error.contains("many"), "{error}");
}

#[test]
fn the_printed_configuration_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let printed = run(&mut command(&["server", "--print-config"]), b"").ok();
    std::fs::write(&file, &printed.stdout).unwrap();
    let again =
        run(&mut command(&["server", "--print-config", "--config", file.to_str().unwrap()]), b"").ok();
    assert_eq!(again.stdout, printed.stdout);
}

#[test]
fn a_second_node_is_refused_the_port_and_the_directory() {
    let node = Node::start();
    let other = tempfile::tempdir().unwrap();
    let dir = other.path().to_str().unwrap();
    let arguments = ["dev", "--data-dir", dir, "--grpc", &node.address(), "--http", "127.0.0.1:0"];
    let ran = run(&mut command(&arguments), b"");
    assert!(ran.stderr.contains(&node.address()) && ran.stderr.contains("another port"), "{ran:?}");
    assert_eq!(ran.status.code(), Some(1));
    let data_dir = node.data_dir();
    let dir = data_dir.to_str().unwrap();
    let arguments = ["dev", "--data-dir", dir, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let ran = run(&mut command(&arguments), b"");
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.stderr.contains(dir), "{ran:?}");
    node.run(&["topic", "list"]).ok();
}

#[test]
fn sigterm_and_a_parent_that_goes_end_a_node_in_order() {
    let mut node = Node::start();
    node.run(&["topic", "create", "t", "-p", "1"]).ok();
    node.run_with(&["produce", "t"], b"kept\n").ok();
    // several times: the end of a process is a race between what it still holds
    for _ in 0..5 {
        assert!(node.terminate().success());
        node.restart();
    }
    assert_eq!(node.run(&["consume", "t"]).ok().text(), "kept\n");
    assert!(node.orphan().success());
    node.restart();
    assert_eq!(node.run(&["consume", "t"]).ok().text(), "kept\n");
}
