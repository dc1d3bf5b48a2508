use std::collections::HashMap;
use std::path::PathBuf;

use super::*;
use crate::regions::OUTSIDE;

const SQUARE: &str = "[[[0,0],[1,0],[1,1],[0,1],[0,0]]]";

fn collection(features: &[String]) -> String {
    format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","))
}

fn named(name: &str, kind: &str, coordinates: &str) -> String {
    format!(
        r#"{{"type":"Feature","properties":{{"name":"{name}"}},"geometry":{{"type":"{kind}","coordinates":{coordinates}}}}}"#
    )
}

fn refused(json: &str) -> String {
    text(json.as_bytes()).err().unwrap_or_else(|| panic!("was taken: {json}"))
}

fn second_feature_is_refused(kind: &str, coordinates: &str, because: &str, remedy: &str) {
    let problem =
        refused(&collection(&[named("good", "Polygon", SQUARE), named("나쁜동", kind, coordinates)]));
    for part in ["feature 2", "나쁜동", because, remedy] {
        assert!(problem.contains(part), "{problem:?} does not say {part:?}");
    }
}

#[test]
fn each_broken_polygon_is_named_with_its_remedy() {
    second_feature_is_refused("Polygon", "[[[0,0],[1,0],[1,1],[0,1]]]", "not closed", "repeat its first");
    second_feature_is_refused("Polygon", "[[[0,0],[1,0],[0,0]]]", "ring of 3 points", "at least 4");
    second_feature_is_refused("Polygon", "[]", "without a ring", "draw it");
    second_feature_is_refused(
        "Polygon",
        "[[[0,0],[1,1],[1,0],[0,1],[0,0]]]",
        "not a valid polygon",
        "makevalid",
    );
    second_feature_is_refused(
        "Polygon",
        "[[[953895,1952860],[954000,1952860],[954000,1953000],[953895,1952860]]]",
        "953895",
        "EPSG:4326",
    );
    second_feature_is_refused("LineString", "[[0,0],[1,1]]", "LineString", "only Polygon and MultiPolygon");
    second_feature_is_refused("MultiPolygon", "[]", "no polygons", "draw one");
    second_feature_is_refused("Polygon", r#""here""#, "cannot be read", "export");
    second_feature_is_refused("Polygon", "[[[0],[1],[1],[0]]]", "", "");
}

#[test]
fn a_feature_without_a_name_says_which_properties_it_has() {
    let nameless = named("x", "Polygon", SQUARE).replace(r#""name":"x""#, r#""title":"x","area":3"#);
    let problem = refused(&collection(&[nameless]));
    assert!(problem.contains("feature 1 has no name") && problem.contains("title"), "{problem}");
    let bare = r#"{"type":"Feature","properties":null,"geometry":null}"#.to_owned();
    assert!(refused(&collection(&[bare])).contains("none"));
}

#[test]
fn what_is_no_geojson_is_refused() {
    assert!(refused("{\"type\":").contains("is no JSON"));
    assert!(refused("[]").contains("FeatureCollection"));
    assert!(refused(r#"{"type":"Topology","objects":{}}"#).contains("FeatureCollection"));
    assert!(refused(&collection(&[])).contains("at least one polygon"));
    let missing = file(Path::new("no/such/file.geojson")).unwrap_err().to_string();
    assert!(missing.contains("no/such/file.geojson") && missing.contains("check the path"), "{missing}");
}

#[test]
fn every_usual_name_property_and_both_kinds_of_polygon_are_understood() {
    for property in NAME_PROPERTIES {
        let feature = named("역삼1동", "MultiPolygon", &format!("[{SQUARE}]"))
            .replace("\"name\"", &format!("\"{property}\""));
        let regions = text(format!("\u{feff}{}", collection(&[feature])).as_bytes()).unwrap();
        assert_eq!(regions.all()[0].label, "역삼1동");
    }
}

#[test]
fn a_point_in_a_hole_is_outside() {
    let ring = "[[[0,0],[9,0],[9,9],[0,9],[0,0]],[[3,3],[3,6],[6,6],[6,3],[3,3]]]";
    let regions = text(collection(&[named("ring", "Polygon", ring)]).as_bytes()).unwrap();
    assert_eq!(regions.locate(Coord { x: 1.0, y: 1.0 }), Some(0));
    assert_eq!(regions.locate(Coord { x: 4.0, y: 4.0 }), None);
}

/// Seoul's real districts, and points whose district was computed by another library, lie beside the checkout in
/// `../shared/data` (or where `SUNSEO_TEST_DATA` says); they are not part of the repository.
fn seoul(file: &str) -> Option<PathBuf> {
    use std::io::Write as _;

    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = std::env::var_os("SUNSEO_TEST_DATA").map_or_else(beside, PathBuf::from).join(file);
    if path.is_file() {
        return Some(path);
    }
    // not eprintln: the test runner would keep it to itself
    let _ = writeln!(std::io::stderr(), "skipped: no {file}; SUNSEO_TEST_DATA names the folder that has it");
    None
}

#[test]
fn the_districts_of_seoul_answer_as_an_independent_library_does() {
    let (Some(polygons), Some(points)) = (seoul("seoul_dong.geojson"), seoul("seoul_points_oracle.ndjson"))
    else {
        return;
    };
    let regions = file(&polygons).unwrap();
    assert_eq!(regions.all().len(), 425);
    let labels: HashMap<&str, &str> =
        regions.all().iter().map(|r| (r.label.as_str(), r.code.as_deref().unwrap())).collect();
    assert_eq!(labels.len(), 425, "every label is unique");
    assert!(!labels.contains_key(OUTSIDE));

    let mut compared = 0;
    for line in std::fs::read_to_string(points).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let at = Coord { x: case["lon"].as_f64().unwrap(), y: case["lat"].as_f64().unwrap() };
        let found = regions.locate(at).map(|n| regions.all()[n].code.clone().unwrap());
        match case["any_of"].as_array() {
            Some(any) => {
                assert!(any.iter().any(|code| code.as_str() == found.as_deref()), "{line}: {found:?}")
            }
            None => assert_eq!(case["code"].as_str(), found.as_deref(), "{line}"),
        }
        compared += 1;
    }
    assert!(compared > 5_000, "{compared} points");
}
