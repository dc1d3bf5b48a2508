//! The city's shops and distances; where points are drawn.
//!
//! Invariant: a place drawn here lies in a district, except [`City::canary_at`], which lies in none.

use std::sync::Arc;

use geo::{BoundingRect, Coord};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::event::ShopId;
use crate::regions::{Position, Regions};

const METRES_PER_DEGREE: f64 = 111_320.0;

/// Deliveries of a day per shop, about, and the bounds of the number of shops.
const DELIVERIES_PER_SHOP: u32 = 40;
const SHOPS_MIN: u32 = 20;
const SHOPS_MAX: u32 = 5_000;

/// Draws of a point before a known one is taken instead; polygons fill a good part of their rectangle.
const DRAWS_MAX: usize = 64;

/// The operator's own shop, which stands outside every district.
pub const CANARY_SHOP: ShopId = ShopId(0);

/// Shops among districts.
#[derive(Debug)]
pub struct City {
    regions: Arc<Regions>,
    /// Shop number n stands at n - 1: number 0 is the canary's.
    shops: Vec<Coord<f64>>,
    canary_at: Option<Position>,
}

impl City {
    /// Draws the shops: some districts have many, some few.
    #[must_use]
    pub fn draw(regions: Arc<Regions>, deliveries: u32, rng: &mut StdRng) -> Self {
        let count = (deliveries / DELIVERIES_PER_SHOP).clamp(SHOPS_MIN, SHOPS_MAX);
        let districts = regions.all().len();
        let hot: Vec<usize> = (0..(districts / 5).max(1)).map(|_| rng.random_range(0..districts)).collect();
        let mut city = Self { regions, shops: Vec::new(), canary_at: None };
        for _ in 0..count {
            let district = if rng.random_bool(0.5) {
                hot[rng.random_range(0..hot.len())]
            } else {
                rng.random_range(0..districts)
            };
            let at = city.point_in(district, rng);
            city.shops.push(at);
        }
        city.canary_at = city.place_outside();
        city
    }

    /// Any point of a district.
    fn point_in(&self, district: usize, rng: &mut StdRng) -> Coord<f64> {
        let polygons = &self.regions.all()[district].shape.0;
        let polygon = &polygons[rng.random_range(0..polygons.len())];
        let Some(area) = polygon.bounding_rect() else { return self.regions.bounds().center() };
        for _ in 0..DRAWS_MAX {
            let at = Coord {
                x: rng.random_range(area.min().x..=area.max().x),
                y: rng.random_range(area.min().y..=area.max().y),
            };
            if self.regions.locate(on_grid(at)) == Some(district) {
                return on_grid(at);
            }
        }
        // a thin polygon: a corner of it lies in it, or at least on its border
        polygon.exterior().0.first().copied().unwrap_or(area.center())
    }

    fn place_outside(&self) -> Option<Position> {
        let bounds = self.regions.bounds();
        let candidates = [
            Coord { x: bounds.max().x + 1.0, y: bounds.center().y },
            Coord { x: bounds.min().x - 1.0, y: bounds.center().y },
            Coord { x: bounds.center().x, y: bounds.max().y + 1.0 },
            Coord { x: bounds.center().x, y: bounds.min().y - 1.0 },
        ];
        let on_globe = |at: &Coord<f64>| (-180.0..=180.0).contains(&at.x) && (-90.0..=90.0).contains(&at.y);
        candidates.into_iter().find(on_globe).map(Position::from_degrees)
    }

    /// Where the canary shop stands; `None` when the districts leave no room on the globe.
    #[must_use]
    pub fn canary_at(&self) -> Option<Position> {
        self.canary_at
    }

    /// A shop and where it stands.
    pub fn any_shop(&self, rng: &mut StdRng) -> (ShopId, Coord<f64>) {
        let index = rng.random_range(0..self.shops.len());
        // at most SHOPS_MAX
        (ShopId(index as u32 + 1), self.shops[index])
    }

    /// A point in a district, at most `metres` away along each axis; `from` itself when there is none.
    pub fn point_near(&self, from: Coord<f64>, metres: f64, rng: &mut StdRng) -> Coord<f64> {
        let degrees = metres / METRES_PER_DEGREE;
        for _ in 0..DRAWS_MAX {
            let at = on_grid(Coord {
                x: from.x + rng.random_range(-degrees..=degrees) / from.y.to_radians().cos().max(0.01),
                y: from.y + rng.random_range(-degrees..=degrees),
            });
            if self.regions.locate(at).is_some() {
                return at;
            }
        }
        from
    }
}

/// The point as a message can say it.
fn on_grid(at: Coord<f64>) -> Coord<f64> {
    Position::from_degrees(at).degrees()
}

/// Metres between two points, on the plane that touches the city.
#[must_use]
pub fn distance_m(a: Coord<f64>, b: Coord<f64>) -> f64 {
    let x = (a.x - b.x) * ((a.y + b.y) / 2.0).to_radians().cos();
    METRES_PER_DEGREE * x.hypot(a.y - b.y)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::regions::{OUTSIDE, RegionSource};

    #[test]
    fn shops_and_points_near_them_lie_in_districts_and_the_canary_in_none() {
        for seed in 0..5 {
            let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
            let mut rng = StdRng::seed_from_u64(seed);
            let city = City::draw(Arc::clone(&regions), 4_000, &mut rng);
            for _ in 0..200 {
                let (shop, at) = city.any_shop(&mut rng);
                assert_ne!(shop, CANARY_SHOP);
                assert_ne!(regions.label_at(Position::from_degrees(at)), OUTSIDE, "seed {seed}: {shop}");
                let near = city.point_near(at, 2_000.0, &mut rng);
                assert_ne!(regions.label_at(Position::from_degrees(near)), OUTSIDE, "seed {seed}: {near:?}");
                assert!(distance_m(at, near) < 2_900.0, "seed {seed}: {near:?}");
            }
            assert_eq!(regions.label_at(city.canary_at().unwrap()), OUTSIDE);
        }
    }

    #[test]
    fn distances_are_those_of_a_map() {
        let (city_hall, gangnam) = (Coord { x: 126.9779, y: 37.5663 }, Coord { x: 127.0276, y: 37.4979 });
        let metres = distance_m(city_hall, gangnam);
        assert!((8_600.0..8_900.0).contains(&metres), "{metres}");
    }
}
