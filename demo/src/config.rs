//! What a demo run is asked for.

use std::path::PathBuf;

use crate::error::{DemoError, Result};
use crate::regions::RegionSource;
use crate::simulator::Day;

/// How fast the day is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as application and node can.
    Max,
    /// Deliveries per second, at most.
    PerSecond(f64),
}

impl std::str::FromStr for Rate {
    type Err = DemoError;

    fn from_str(text: &str) -> Result<Self> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Self::PerSecond(rate)),
            _ => Err(DemoError::config("rate", text, "give deliveries per second, such as 500, or `max`")),
        }
    }
}

/// Settings of one run; [`DemoConfig::default`] is what `sunseo demo` does.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Deliveries that are committed during the day; orders that are rolled back come on top.
    pub deliveries: u32,
    pub riders: u32,
    /// Decides the city (unless `regions` is given), the day and the moments of the kills.
    pub seed: u64,
    pub rate: Rate,
    /// GeoJSON file with the districts; a generated city otherwise.
    pub regions: Option<PathBuf>,
    /// How often the node is killed (SIGKILL) and started again during the day.
    pub chaos_kills: u32,
    /// Partitions of every topic; a multiple of `shards`.
    pub partitions: i32,
    /// Outbox tables of the application.
    pub shards: u32,
    /// GPS points a rider sends in a shift, about.
    pub gps_points_per_rider: u32,
    /// Where the application's database is made: an existing, empty directory.
    pub work_dir: PathBuf,
    /// Python with DuckDB, the independent reader of the Parquet files; `SUNSEO_PYTHON` or `python3` otherwise.
    pub python: Option<PathBuf>,
    /// Seconds without any progress after which the comparison begins with what is there.
    pub patience_s: u64,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self {
            deliveries: 20_000,
            riders: 2_000,
            seed: 1,
            rate: Rate::Max,
            regions: None,
            chaos_kills: 0,
            partitions: 8,
            shards: 4,
            gps_points_per_rider: 100,
            work_dir: PathBuf::from("."),
            python: None,
            patience_s: 60,
        }
    }
}

/// Bounds that keep ids in their digits and the day in memory.
pub const DELIVERIES_MAX: u32 = 9_000_000;
pub const RIDERS_MAX: u32 = 90_000;
pub const SHARDS_MAX: u32 = 64;
pub const PARTITIONS_MAX: i32 = 256;
pub const KILLS_MAX: u32 = 1_000;

impl DemoConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        let range = |name: &str, value: u64, min: u64, max: u64| {
            let remedy = format!("choose {min} to {max}");
            if (min..=max).contains(&value) { Ok(()) } else { Err(DemoError::config(name, value, remedy)) }
        };
        range("deliveries", self.deliveries.into(), 1, DELIVERIES_MAX.into())?;
        range("riders", self.riders.into(), 1, RIDERS_MAX.into())?;
        range("shards", self.shards.into(), 1, SHARDS_MAX.into())?;
        range("partitions", self.partitions.max(0) as u64, 1, PARTITIONS_MAX as u64)?;
        range("chaos kills", self.chaos_kills.into(), 0, KILLS_MAX.into())?;
        range("gps points per rider", self.gps_points_per_rider.into(), 1, 100_000)?;
        if !(self.partitions as u32).is_multiple_of(self.shards) {
            let remedy = format!("choose a multiple of the {} outbox shards", self.shards);
            return Err(DemoError::config("partitions", self.partitions, remedy));
        }
        Ok(())
    }

    /// Where the districts come from; the node's pipeline needs the same ones.
    #[must_use]
    pub fn region_source(&self) -> RegionSource {
        match &self.regions {
            Some(path) => RegionSource::File(path.clone()),
            None => RegionSource::Generated { seed: self.seed },
        }
    }

    /// The day to be played.
    #[must_use]
    pub fn day(&self) -> Day {
        Day {
            deliveries: self.deliveries,
            riders: self.riders,
            gps_points_per_rider: self.gps_points_per_rider,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        DemoConfig::default().validate().unwrap();
    }

    #[test]
    fn a_value_out_of_range_names_itself_and_the_range() {
        let config = DemoConfig { partitions: 6, shards: 4, ..DemoConfig::default() };
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("partitions") && message.contains("multiple of the 4"), "{message}");
        let config = DemoConfig { riders: 0, ..DemoConfig::default() };
        assert!(config.validate().unwrap_err().to_string().contains("1 to 90000"));
    }

    #[test]
    fn a_rate_is_max_or_a_positive_number() {
        assert_eq!("max".parse::<Rate>().unwrap(), Rate::Max);
        assert_eq!("500".parse::<Rate>().unwrap(), Rate::PerSecond(500.0));
        for bad in ["0", "-1", "fast", "inf"] {
            assert!(bad.parse::<Rate>().unwrap_err().to_string().contains(bad));
        }
    }
}
