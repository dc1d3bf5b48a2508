//! Districts from a GeoJSON file: any polygons with a name property, in WGS 84.
//!
//! A file is refused as a whole at its first fault, with the number and name of the feature and what to do: a city with
//! a hole in it would give wrong counts without a word.

use std::path::Path;

use geo::{Area, Coord, LineString, MultiPolygon, Polygon, Validation};
use geojson::{Geometry, GeometryValue};
use serde_json::{Map, Value};

use super::{Region, Regions};
use crate::error::{DemoError, Result};

/// Larger files are refused before they are read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Properties that hold a name, in the order they are looked for.
const NAME_PROPERTIES: [&str; 12] = [
    "name",
    "NAME",
    "Name",
    "adm_nm",
    "ADM_NM",
    "adm_dr_nm",
    "ADM_DR_NM",
    "emd_nm",
    "EMD_NM",
    "EMD_KOR_NM",
    "emd_kor_nm",
    "name:ko",
];
/// Properties that hold a code.
const CODE_PROPERTIES: [&str; 10] =
    ["code", "CODE", "adm_cd2", "adm_cd", "ADM_CD", "adm_dr_cd", "ADM_DR_CD", "emd_cd", "EMD_CD", "id"];

/// Loads a file.
///
/// # Errors
/// When it cannot be read, is no GeoJSON, or a feature cannot serve as a district.
pub fn file(path: &Path) -> Result<Regions> {
    let refuse = |problem: String| DemoError::Regions { path: path.to_owned(), problem };
    let metadata =
        std::fs::metadata(path).map_err(|e| refuse(format!("cannot be read ({e}): check the path")))?;
    if metadata.len() > FILE_BYTES_MAX {
        let bytes = metadata.len();
        return Err(refuse(format!(
            "has {bytes} bytes, the limit is {FILE_BYTES_MAX}: simplify the polygons"
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| refuse(format!("cannot be read ({e}): check the path")))?;
    text(&bytes).map_err(refuse)
}

/// The same from the file's bytes; the error is the problem and its remedy.
fn text(bytes: &[u8]) -> Result<Regions, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|e| format!("is no JSON ({e}): give a GeoJSON FeatureCollection in UTF-8"))?;
    let Some(Value::Array(features)) = json.get("features").filter(|_| is_type(&json, "FeatureCollection"))
    else {
        return Err(
            "is no GeoJSON FeatureCollection: it needs \"type\": \"FeatureCollection\" and \"features\""
                .to_owned(),
        );
    };
    if features.is_empty() {
        return Err("has no features: give at least one polygon".to_owned());
    }
    let regions: Result<Vec<Region>, String> =
        features.iter().enumerate().map(|(n, f)| feature(n + 1, f)).collect();
    Ok(Regions::new(regions?))
}

fn is_type(json: &Value, expected: &str) -> bool {
    json.get("type").and_then(Value::as_str) == Some(expected)
}

/// `number` counts from 1, as an editor shows it.
fn feature(number: usize, json: &Value) -> Result<Region, String> {
    let empty = Map::new();
    let properties = json.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let Some(name) = property(properties, &NAME_PROPERTIES) else {
        let there: Vec<&str> = properties.keys().map(String::as_str).collect();
        return Err(format!(
            "feature {number} has no name: give it a property \"name\" (its properties are: {})",
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        ));
    };
    let shape = shape(json).map_err(|problem| format!("feature {number} ({name}) {problem}"))?;
    Ok(Region { label: String::new(), name, code: property(properties, &CODE_PROPERTIES), shape })
}

fn property(properties: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match properties.get(*name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn shape(feature: &Value) -> Result<MultiPolygon<f64>, String> {
    let Some(geometry) = feature.get("geometry").filter(|geometry| !geometry.is_null()) else {
        return Err("has no geometry: remove it or draw its polygon".to_owned());
    };
    let geometry = serde_json::from_value::<Geometry>(geometry.clone())
        .map_err(|e| format!("has a geometry that cannot be read ({e}): export the file again"))?;
    let polygons = match geometry.value {
        GeometryValue::Polygon { coordinates } => vec![coordinates],
        GeometryValue::MultiPolygon { coordinates } => coordinates,
        other => {
            return Err(format!("is a {}: only Polygon and MultiPolygon have an inside", other.type_name()));
        }
    };
    if polygons.is_empty() {
        return Err("has no polygons: remove it or draw one".to_owned());
    }
    let polygons: Result<Vec<Polygon<f64>>, String> = polygons
        .iter()
        .map(|rings| polygon(rings.iter().map(|ring| ring.iter().map(|at| at.as_slice()))))
        .collect();
    Ok(MultiPolygon(polygons?))
}

fn polygon<'a>(rings: impl Iterator<Item = impl Iterator<Item = &'a [f64]>>) -> Result<Polygon<f64>, String> {
    let mut rings = rings.map(ring).collect::<Result<Vec<_>, _>>()?.into_iter();
    let outside = rings.next().ok_or("has a polygon without a ring: remove it or draw it")?;
    let polygon = Polygon::new(outside, rings.collect());
    if let Err(problem) = polygon.check_validation() {
        return Err(format!(
            "is not a valid polygon ({problem}): mend it, for example with `ogr2ogr -makevalid`"
        ));
    }
    if polygon.unsigned_area() <= 0.0 {
        return Err("has no area: remove it or draw its polygon".to_owned());
    }
    Ok(polygon)
}

fn ring<'a>(positions: impl Iterator<Item = &'a [f64]>) -> Result<LineString<f64>, String> {
    let points = positions.map(point).collect::<Result<Vec<_>, _>>()?;
    if points.len() < 4 {
        return Err(format!("has a ring of {} points: a closed ring needs at least 4", points.len()));
    }
    if points.first() != points.last() {
        return Err("has a ring that is not closed: its last point must repeat its first".to_owned());
    }
    Ok(LineString(points))
}

fn point(position: &[f64]) -> Result<Coord<f64>, String> {
    let &[x, y, ..] = position else {
        return Err(format!("has a point of {} numbers: give longitude and latitude", position.len()));
    };
    if !(-180.0..=180.0).contains(&x) || !(-90.0..=90.0).contains(&y) {
        return Err(format!(
            "has the point ({x}, {y}), which is not longitude and latitude: convert the file to WGS 84 with \
             `ogr2ogr -t_srs EPSG:4326`"
        ));
    }
    Ok(Coord { x, y })
}

#[cfg(test)]
mod tests;
