use super::*;

fn with(toml: &str, environment: &[(&str, &str)]) -> Result<NodeConfig, String> {
    let mut raw = from_toml(toml, "node.toml")?;
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    raw.extend(from_environment(environment));
    validated(NodeConfig::default(), raw)
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let config = with(
        "[node]\ndata_dir = \"/data\"\nid = 3\n[listen]\ngrpc = \"0.0.0.0:1\"\n[pipelines]\nrun = [\"delivery-day\"]",
        &[("SUNSEO_NODE__ID", "4"), ("SUNSEO_OUTBOX__POLL_MAX_MS", "50"), ("SUNSEO_SERVER", "x"), ("PATH", "/")],
    )
    .unwrap();
    assert_eq!(config.broker.data_dir, PathBuf::from("/data"));
    assert_eq!(config.broker.node_id, 4);
    assert_eq!(config.listen.grpc.to_string(), "0.0.0.0:1");
    assert_eq!(config.listen.http.port(), HTTP_PORT);
    assert_eq!(config.pipelines.run, ["delivery-day"]);
    assert_eq!(config.outbox.poll_max.as_millis(), 50);
}

#[test]
fn what_is_refused_names_its_source_the_value_and_the_remedy() {
    let refused = |toml, environment: &[(&str, &str)], parts: &[&str]| {
        let error = with(toml, environment).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{error} has no {part}");
        }
    };
    refused("[listen]\ngrcp = 1", &[], &["node.toml: listen.grcp", "did you mean listen.grpc?"]);
    refused("grpc = 1", &[], &["node.toml: grpc", "listen.grpc"]);
    refused("", &[("SUNSEO_TIER__ARCHIVE_ROW", "1")], &["SUNSEO_TIER__ARCHIVE_ROW", "tier.archive_rows"]);
    refused("[node]\nid = \"a\"", &[], &["node.id", "\"a\"", "whole number"]);
    refused("[node]\nid = 99999999999", &[], &["99999999999", "2147483647"]);
    refused("[listen]\ngrpc = \"localhost\"", &[], &["ADDRESS:PORT"]);
    refused("[listen]\ngrpc = \"127.0.0.1:7412\"", &[], &["both 127.0.0.1:7412"]);
    refused("[pipelines]\npartitions = 0", &[], &["partitions is 0", "1 to 10000"]);
    refused("[outbox]\nbatch_rows = 0", &[], &["batch_rows is 0"]);
    refused("[node", &[], &["node.toml is not TOML"]);
}

#[test]
fn every_setting_is_there_once_and_survives_being_printed() {
    let mut names: Vec<_> = keys::KEYS.iter().map(|key| key.name).collect();
    let sections: Vec<_> = names.iter().map(|name| name.split('.').next()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), keys::KEYS.len());
    let mut runs = sections.clone();
    runs.dedup();
    let mut distinct = sections;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(runs.len(), distinct.len(), "settings of a section stand together");
    let text = NodeConfig::default().to_toml();
    let config = with(&text, &[]).unwrap();
    assert_eq!(config.to_toml(), text);
}
