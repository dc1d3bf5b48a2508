//! When orders come: a day with a lunch and a dinner peak.

/// Minutes of the day between which orders are taken.
const OPEN_MINUTE: u32 = 8 * 60;
const CLOSE_MINUTE: u32 = 23 * 60;

const MS_PER_MINUTE: f64 = 60_000.0;

/// Orders per minute at this minute of the day, relative to the others.
fn weight(minute: f64) -> f64 {
    let peak = |at: f64, width: f64| (-((minute - at) / width).powi(2)).exp();
    0.15 + peak(12.25 * 60.0, 50.0) + 1.2 * peak(18.75 * 60.0, 70.0)
}

/// The shape of the day as a distribution.
#[derive(Debug)]
pub struct Demand {
    /// Part of the day's orders before the end of each minute.
    through: Vec<f64>,
}

impl Demand {
    pub fn new() -> Self {
        let mut sum = 0.0;
        let mut through: Vec<f64> = (OPEN_MINUTE..CLOSE_MINUTE)
            .map(|minute| {
                sum += weight(f64::from(minute) + 0.5);
                sum
            })
            .collect();
        through.iter_mut().for_each(|part| *part /= sum);
        Self { through }
    }

    /// Milliseconds since midnight at which this part of the day's orders (0 to 1) has come. Never falls as `part` grows.
    pub fn time_of_day_ms(&self, part: f64) -> i64 {
        let index = self.through.partition_point(|&through| through <= part).min(self.through.len() - 1);
        let before = if index == 0 { 0.0 } else { self.through[index - 1] };
        let inside = ((part - before) / (self.through[index] - before)).clamp(0.0, 1.0);
        ((f64::from(OPEN_MINUTE) + index as f64 + inside) * MS_PER_MINUTE) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lunch_and_dinner_are_busy_and_the_afternoon_is_not() {
        let demand = Demand::new();
        let mut per_hour = [0; 24];
        for n in 0..10_000 {
            let at = demand.time_of_day_ms((f64::from(n) + 0.5) / 10_000.0);
            per_hour[usize::try_from(at / 3_600_000).unwrap()] += 1;
        }
        assert!(per_hour[12] > 3 * per_hour[15] && per_hour[18] > 3 * per_hour[15], "{per_hour:?}");
        assert_eq!(per_hour[..8].iter().chain(&per_hour[23..]).sum::<i32>(), 0, "{per_hour:?}");
    }

    #[test]
    fn time_never_goes_back() {
        let demand = Demand::new();
        let times: Vec<i64> = (0..=5_000).map(|n| demand.time_of_day_ms(f64::from(n) / 5_000.0)).collect();
        assert!(times.is_sorted());
    }
}
