//! Administrative districts (행정동) and the one question asked of them: which one does this point lie in?
//!
//! Invariants: every district has a label of its own; the answer depends on nothing but the polygons and the point; a
//! point on a border belongs to the district that comes first in the file. A point in no district is [`OUTSIDE`].
//!
//! Coordinates are WGS 84 degrees, in messages as integers of 1e-7 degree so that every reader sees the same number.
//! Districts that overlap are not refused: the first one wins there as on a border.

pub mod generate;
pub mod load;

use std::path::PathBuf;

use geo::{BoundingRect, Coord, Intersects, MultiPolygon, Rect};
use rstar::RTree;
use rstar::primitives::{GeomWithData, Rectangle};

use crate::error::Result;

/// Label of everything that lies in no district.
pub const OUTSIDE: &str = "outside";

/// Units of a coordinate in a message.
pub const UNITS_PER_DEGREE: f64 = 1e7;

/// Where the districts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionSource {
    /// A city drawn from this seed.
    Generated { seed: u64 },
    /// A GeoJSON file of polygons with a name property.
    File(PathBuf),
}

/// One district.
#[derive(Clone, Debug)]
pub struct Region {
    /// Unique; the name, with the code or a number behind it where names repeat.
    pub label: String,
    pub name: String,
    /// The administration's code, when the file has one.
    pub code: Option<String>,
    pub shape: MultiPolygon<f64>,
}

/// The rectangle around one polygon, with the numbers of its district and of the polygon in it.
type Entry = GeomWithData<Rectangle<[f64; 2]>, (usize, usize)>;

/// Districts with their index.
#[derive(Debug)]
pub struct Regions {
    regions: Vec<Region>,
    index: RTree<Entry>,
    bounds: Rect<f64>,
}

/// A position in 1e-7 degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    pub lon_e7: i32,
    pub lat_e7: i32,
}

impl Position {
    /// The nearest position to these degrees, which must be on the globe.
    #[must_use]
    pub fn from_degrees(at: Coord<f64>) -> Self {
        // within i32: 180 degrees are 1.8e9 units
        let units = |degrees: f64| (degrees * UNITS_PER_DEGREE).round() as i32;
        Self { lon_e7: units(at.x), lat_e7: units(at.y) }
    }

    /// In degrees.
    #[must_use]
    pub fn degrees(self) -> Coord<f64> {
        Coord { x: f64::from(self.lon_e7) / UNITS_PER_DEGREE, y: f64::from(self.lat_e7) / UNITS_PER_DEGREE }
    }
}

impl Regions {
    /// Generates or loads.
    ///
    /// # Errors
    /// When the file cannot be used; the message names the feature and the remedy.
    pub fn open(source: &RegionSource) -> Result<Self> {
        match source {
            RegionSource::Generated { seed } => Ok(generate::city(*seed)),
            RegionSource::File(path) => load::file(path),
        }
    }

    /// Builds the index; the order of `regions` decides on borders. There must be at least one, none without area.
    fn new(mut regions: Vec<Region>) -> Self {
        make_labels_unique(&mut regions);
        let mut entries = Vec::new();
        let mut bounds: Option<Rect<f64>> = None;
        for (number, region) in regions.iter().enumerate() {
            for (part, polygon) in region.shape.iter().enumerate() {
                let Some(area) = polygon.bounding_rect() else { continue };
                let rectangle =
                    Rectangle::from_corners([area.min().x, area.min().y], [area.max().x, area.max().y]);
                entries.push(GeomWithData::new(rectangle, (number, part)));
                bounds = Some(bounds.map_or(area, |known| union(known, area)));
            }
        }
        let nowhere = Coord { x: 0.0, y: 0.0 };
        Self {
            regions,
            index: RTree::bulk_load(entries),
            bounds: bounds.unwrap_or(Rect::new(nowhere, nowhere)),
        }
    }

    /// Number of the district a point lies in.
    #[must_use]
    pub fn locate(&self, at: Coord<f64>) -> Option<usize> {
        self.index
            .locate_all_at_point(&[at.x, at.y])
            .map(|entry| entry.data)
            .filter(|&(number, part)| self.regions[number].shape.0[part].intersects(&at))
            .map(|(number, _)| number)
            .min()
    }

    /// Label of the district a position lies in, or [`OUTSIDE`].
    #[must_use]
    pub fn label_at(&self, position: Position) -> &str {
        self.locate(position.degrees()).map_or(OUTSIDE, |number| &self.regions[number].label)
    }

    /// In their order.
    #[must_use]
    pub fn all(&self) -> &[Region] {
        &self.regions
    }

    /// The smallest rectangle around all of them.
    #[must_use]
    pub fn bounds(&self) -> Rect<f64> {
        self.bounds
    }
}

fn union(a: Rect<f64>, b: Rect<f64>) -> Rect<f64> {
    Rect::new(
        Coord { x: a.min().x.min(b.min().x), y: a.min().y.min(b.min().y) },
        Coord { x: a.max().x.max(b.max().x), y: a.max().y.max(b.max().y) },
    )
}

/// A name that occurs once is the label; others get their code, and a number where that is not enough.
fn make_labels_unique(regions: &mut [Region]) {
    use std::collections::{HashMap, HashSet};

    let mut names: HashMap<String, usize> = HashMap::from([(OUTSIDE.to_owned(), 1)]);
    for region in regions.iter() {
        *names.entry(region.name.clone()).or_default() += 1;
    }
    // unique names first, so that no made-up label can take one of them
    let mut taken: HashSet<String> = HashSet::from([OUTSIDE.to_owned()]);
    for region in regions.iter_mut().filter(|region| names[&region.name] == 1) {
        region.label.clone_from(&region.name);
        taken.insert(region.label.clone());
    }
    for region in regions.iter_mut().filter(|region| names[&region.name] > 1) {
        let with_code = region.code.as_ref().map(|code| format!("{} ({code})", region.name));
        let numbered = (1_u64..).map(|n| format!("{} #{n}", region.name));
        let free = with_code.into_iter().chain(numbered).find(|label| !taken.contains(label));
        // the numbers are endless, so one is free
        region.label = free.unwrap_or_default();
        taken.insert(region.label.clone());
    }
}

#[cfg(test)]
mod tests {
    use geo::polygon;

    use super::*;

    fn square(name: &str, code: Option<&str>, x: f64) -> Region {
        let shape = polygon![(x: x, y: 0.0), (x: x + 1.0, y: 0.0), (x: x + 1.0, y: 1.0), (x: x, y: 1.0)];
        Region {
            label: String::new(),
            name: name.to_owned(),
            code: code.map(str::to_owned),
            shape: MultiPolygon(vec![shape]),
        }
    }

    #[test]
    fn a_border_belongs_to_the_first_of_its_districts_and_the_rest_is_outside() {
        let regions = Regions::new(vec![square("west", None, 0.0), square("east", None, 1.0)]);
        let at = |x: f64, y: f64| regions.label_at(Position::from_degrees(Coord { x, y })).to_owned();
        assert_eq!(at(0.5, 0.5), "west");
        assert_eq!(at(1.5, 0.5), "east");
        assert_eq!(at(1.0, 0.5), "west");
        assert_eq!(at(2.0, 1.0), "east");
        assert_eq!(at(2.1, 0.5), OUTSIDE);
    }

    #[test]
    fn names_that_repeat_get_labels_of_their_own() {
        let regions = Regions::new(vec![
            square("same", Some("11"), 0.0),
            square("same", Some("12"), 1.0),
            square("bare", None, 2.0),
            square("bare", None, 3.0),
            square("bare #1", None, 4.0),
            square(OUTSIDE, None, 5.0),
        ]);
        let labels: Vec<&str> = regions.all().iter().map(|region| region.label.as_str()).collect();
        assert_eq!(labels, ["same (11)", "same (12)", "bare #2", "bare #3", "bare #1", "outside #1"]);
    }
}
