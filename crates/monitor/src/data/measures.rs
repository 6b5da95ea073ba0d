//! What is measured of a day of one kind of event.

use super::sketch::EventDay;
use crate::days::{Measure, Statistic, USER_ID, VALUES_MIN, of_values};

/// Everything about a day that needs no other day to be measured: by property (the empty name for the event itself) and question.
pub(super) fn of_day(day: &EventDay) -> Vec<(String, Statistic, Measure)> {
    let mut measures = Vec::new();
    if day.count < VALUES_MIN {
        return measures;
    }
    let count = day.count as f64;
    let contents = day.contents.count();
    let mut repeats = Measure::share(count - contents, count);
    if day.count > 127 {
        repeats.noise += 0.0325 * (contents / count).min(1.0); // the sketch's own error
    }
    measures.push((String::new(), Statistic::Repeats, repeats));
    let without = Measure::share((day.count - day.with_user) as f64, count);
    measures.push((USER_ID.to_owned(), Statistic::Missing, without));
    for (name, property) in &day.properties {
        let absent = day.count.saturating_sub(property.present()) as f64;
        let mut push = |statistic, measure| measures.push((name.clone(), statistic, measure));
        push(Statistic::Missing, Measure::share(absent, count));
        of_values(property, &mut push);
    }
    measures
}
