//! Names of the topics that a pipeline has for itself. Pure.
//!
//! A reset gives a pipeline a new generation, and with it new topics: nothing that the former generation wrote, also not what is
//! still on its way, can be taken for its own.

/// The topic of the task logs of a sub-topology.
pub(crate) fn task_log(pipeline: &str, sub_topology: &str, generation: u64) -> String {
    format!("__{}.tasklog{}", legal(&format!("{pipeline}.{sub_topology}")), suffix(generation))
}

/// The topic behind a repartition topic of the plan.
pub(crate) fn repartition(planned: &str, generation: u64) -> String {
    format!("{}{}", legal(planned), suffix(generation))
}

fn suffix(generation: u64) -> String {
    if generation == 0 { String::new() } else { format!(".g{generation}") }
}

/// Ids may hold a colon, names of topics may not.
fn legal(name: &str) -> String {
    name.replace(':', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_has_topics_of_its_own_and_names_are_legal() {
        assert_eq!(task_log("day", "by-rider:repartition", 0), "__day.by-rider.repartition.tasklog");
        assert_eq!(task_log("day", "orders", 2), "__day.orders.tasklog.g2");
        assert_eq!(repartition("day-by-rider-repartition", 3), "day-by-rider-repartition.g3");
    }
}
