//! A city from a seed: a grid whose corners and edges are bent, with some neighbours joined.
//!
//! Invariant: the districts tile the city. Neighbours share the very same corner points, so there is neither gap nor
//! overlap whatever the seed; the tests measure it.

use std::collections::{BTreeMap, BTreeSet};

use geo::{Coord, LineString, MultiPolygon, Polygon};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Region, Regions};

/// South-west corner and size of the city, degrees; about 26 km by 28 km.
const ORIGIN: Coord<f64> = Coord { x: 126.80, y: 37.43 };
const SIZE: Coord<f64> = Coord { x: 0.30, y: 0.25 };
/// Cells along each side, before some are joined.
const COLUMNS_MIN: usize = 13;
const COLUMNS_MAX: usize = 17;
/// How far a corner and the middle of an edge are moved, as a part of a cell. Small enough that edges never cross.
const CORNER_SHIFT: f64 = 0.22;
const MIDDLE_SHIFT: f64 = 0.10;
/// Of how many cells one is joined to its neighbour.
const JOIN_ONE_IN: u32 = 5;

const FIRST: [&str; 16] = [
    "가람", "나래", "다솜", "라온", "마루", "바다", "새론", "아람", "자람", "찬솔", "큰들", "태화", "푸른",
    "하늘", "한별", "해솔",
];

/// The city of a seed; the same seed draws the same city.
#[must_use]
pub fn city(seed: u64) -> Regions {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x_c17e);
    let columns = rng.random_range(COLUMNS_MIN..=COLUMNS_MAX);
    let rows = rng.random_range(COLUMNS_MIN..=COLUMNS_MAX);
    let grid = Grid::draw(columns, rows, &mut rng);
    let regions = grid
        .districts(&mut rng)
        .into_iter()
        .enumerate()
        .map(|(number, cells)| Region {
            label: String::new(),
            name: name(number),
            code: Some(format!("99{number:06}00")),
            shape: MultiPolygon(vec![grid.outline(&cells)]),
        })
        .collect();
    Regions::new(regions)
}

fn name(number: usize) -> String {
    format!("{}{}동", FIRST[number % FIRST.len()], number / FIRST.len() + 1)
}

/// A point of the bent grid on a lattice of half cells: corners have even numbers, middles of edges one odd number.
type Point = (usize, usize);
type Cell = (usize, usize);

struct Grid {
    columns: usize,
    rows: usize,
    points: BTreeMap<Point, Coord<f64>>,
}

impl Grid {
    fn draw(columns: usize, rows: usize, rng: &mut StdRng) -> Self {
        let mut points = BTreeMap::new();
        let cell = Coord { x: SIZE.x / columns as f64, y: SIZE.y / rows as f64 };
        for x in 0..=2 * columns {
            for y in 0..=2 * rows {
                if x % 2 == 1 && y % 2 == 1 {
                    continue; // the inside of a cell
                }
                let shift = if x % 2 == 0 && y % 2 == 0 { CORNER_SHIFT } else { MIDDLE_SHIFT };
                let bent = |half: usize, draw: f64| half as f64 / 2.0 + draw * shift;
                let at = (bent(x, rng.random_range(-1.0..1.0)), bent(y, rng.random_range(-1.0..1.0)));
                points.insert((x, y), Coord { x: ORIGIN.x + at.0 * cell.x, y: ORIGIN.y + at.1 * cell.y });
            }
        }
        Self { columns, rows, points: Self::centre_middles(points) }
    }

    /// A middle keeps its shift but stands on the bent edge, not on the straight grid line.
    fn centre_middles(points: BTreeMap<Point, Coord<f64>>) -> BTreeMap<Point, Coord<f64>> {
        let straight = |&(x, y): &Point, at: Coord<f64>| {
            let ends = match (x % 2, y % 2) {
                (1, _) => [(x - 1, y), (x + 1, y)],
                (_, 1) => [(x, y - 1), (x, y + 1)],
                _ => return at,
            };
            let [from, to] = ends.map(|end| points[&end]);
            // half of the way to the middle of the edge is enough to keep edges apart
            Coord { x: (at.x + (from.x + to.x) / 2.0) / 2.0, y: (at.y + (from.y + to.y) / 2.0) / 2.0 }
        };
        points.iter().map(|(point, &at)| (*point, straight(point, at))).collect()
    }

    /// Cells of each district: one, or two neighbours.
    fn districts(&self, rng: &mut StdRng) -> Vec<Vec<Cell>> {
        let mut free: BTreeSet<Cell> =
            (0..self.rows).flat_map(|y| (0..self.columns).map(move |x| (y, x))).collect();
        let mut districts = Vec::new();
        while let Some((y, x)) = free.pop_first() {
            let mut cells = vec![(y, x)];
            let neighbour = if rng.random_bool(0.5) { (y + 1, x) } else { (y, x + 1) };
            if rng.random_ratio(1, JOIN_ONE_IN) && free.remove(&neighbour) {
                cells.push(neighbour);
            }
            districts.push(cells);
        }
        districts
    }

    /// The border around some cells that hang together: their edges without those that two of them share.
    fn outline(&self, cells: &[Cell]) -> Polygon<f64> {
        let mut next: BTreeMap<Point, Point> = BTreeMap::new();
        for edge in cells.iter().flat_map(|&cell| counter_clockwise(cell)) {
            if next.get(&edge.1) == Some(&edge.0) {
                next.remove(&edge.1);
            } else {
                next.insert(edge.0, edge.1);
            }
        }
        let mut ring = Vec::with_capacity(next.len() + 1);
        let mut at = next.keys().next().copied();
        while let Some(point) = at {
            ring.push(self.points[&point]);
            at = next.remove(&point);
        }
        Polygon::new(LineString(ring), Vec::new())
    }
}

/// The eight half edges around a cell.
fn counter_clockwise((y, x): Cell) -> [(Point, Point); 8] {
    let (x, y) = (2 * x, 2 * y);
    let ring =
        [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)].map(|(dx, dy)| (x + dx, y + dy));
    std::array::from_fn(|i| (ring[i], ring[(i + 1) % ring.len()]))
}

#[cfg(test)]
mod tests {
    use geo::{Area, Contains, Intersects, Validation};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_seed_draws_its_city_again_and_another_seed_another_one() {
        let shapes = |seed| city(seed).all().iter().map(|r| r.shape.clone()).collect::<Vec<_>>();
        assert_eq!(shapes(1), shapes(1));
        assert_ne!(shapes(1), shapes(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn every_point_of_the_city_lies_in_exactly_one_district(seed: u64) {
            let regions = city(seed);
            prop_assert!((100..400).contains(&regions.all().len()), "{} districts", regions.all().len());
            for region in regions.all() {
                prop_assert!(region.shape.is_valid(), "{} crosses itself", region.label);
            }
            // one row of cells around the city may stick out or be missing because of the bends: look at the inside
            let margin = SIZE.x / COLUMNS_MIN as f64;
            let mut rng = StdRng::seed_from_u64(seed);
            for _ in 0..500 {
                let at = Coord {
                    x: ORIGIN.x + rng.random_range(margin..SIZE.x - margin),
                    y: ORIGIN.y + rng.random_range(margin..SIZE.y - margin),
                };
                let inside = regions.all().iter().filter(|r| r.shape.contains(&at)).count();
                let touching: Vec<usize> =
                    (0..regions.all().len()).filter(|&n| regions.all()[n].shape.intersects(&at)).collect();
                prop_assert!(inside <= 1 && !touching.is_empty(), "{at:?}: {inside} inside, {touching:?} touching");
                prop_assert_eq!(regions.locate(at), touching.first().copied());
            }
        }

        #[test]
        fn the_areas_add_up_to_the_outline(seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let grid = Grid::draw(14, 13, &mut rng);
            let districts = grid.districts(&mut rng);
            let sum: f64 = districts.iter().map(|cells| grid.outline(cells).unsigned_area()).sum();
            let everything: Vec<Cell> = districts.concat();
            let whole = grid.outline(&everything).unsigned_area();
            prop_assert!((sum - whole).abs() < 1e-12, "{sum} and {whole}");
        }
    }
}
