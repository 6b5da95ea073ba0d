//! The events that are sent: the same ones in every run, made from counters and a seed.

use std::io::Write;

/// How many different people the events are about.
pub(crate) const USERS: u64 = 5_000;

/// Events for the intake: each with a message id of its own, about 420 bytes long, as a shop's server sends them.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    /// Begins every message id, so that two phases never send the same.
    prefix: String,
}

impl Events {
    /// Events whose message ids begin with `prefix`.
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Appends the event with that number as JSON.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let random = mix(number);
        let user = random % USERS;
        let sku = (random >> 20) % 800;
        let cents = 100 + (random >> 32) % 20_000;
        let (event, kind) = if random.is_multiple_of(20) {
            ("Order Completed", "order")
        } else {
            ("Product Viewed", "view")
        };
        // writing to a Vec cannot fail
        let _ = write!(
            out,
            "{{\"type\":\"track\",\"event\":\"{event}\",\"userId\":\"user-{user}\",\
             \"messageId\":\"{prefix}-{number}\",\
             \"properties\":{{\"product_id\":\"sku-{sku}\",\"total\":{whole}.{rest:02},\"currency\":\"EUR\",\
             \"category\":\"{kind}-{category}\",\"quantity\":{quantity}}},\
             \"context\":{{\"ip\":\"198.51.100.7\",\"locale\":\"en-GB\",\"page\":{{\"url\":\"https://shop.example.test/p/{sku}\",\
             \"referrer\":\"https://search.example.test/\"}},\"library\":{{\"name\":\"bench\",\"version\":\"1\"}}}}}}",
            prefix = self.prefix,
            whole = cents / 100,
            rest = cents % 100,
            category = sku % 12,
            quantity = 1 + random % 4,
        );
    }

    /// Writes the `count` events from number `first` as the body of a batch, over what `body` held.
    pub(crate) fn batch(&self, first: u64, count: u64, body: &mut Vec<u8>) {
        body.clear();
        body.extend_from_slice(b"{\"batch\":[");
        for number in first..first + count {
            if number > first {
                body.push(b',');
            }
            self.write(number, body);
        }
        body.extend_from_slice(b"]}");
    }

    /// Writes one event as a body, over what `body` held.
    pub(crate) fn single(&self, number: u64, body: &mut Vec<u8>) {
        body.clear();
        self.write(number, body);
    }
}

/// Writes a shop's history as CSV, sorted by time: people have different, stable inclinations to look and to buy, so that
/// there is something to learn. `end_seconds` is where it ends, in seconds since 1970; it reaches back `days`.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_history(
    out: &mut impl Write,
    end_seconds: i64,
    days: i64,
) -> std::io::Result<u64> {
    writeln!(out, "user,at,event,total")?;
    let mut count = 0;
    for hour in 0..days * 24 {
        let begin = end_seconds - (days * 24 - hour) * 3_600;
        for visit in 0..USERS / 200 {
            let random = mix((hour.unsigned_abs() << 20) | visit);
            // squaring makes a few people visit much more often than the rest
            let share = (random % 1_000_000) as f64 / 1e6;
            let user = (share * share * USERS as f64) as u64;
            let inclination = mix(user ^ 0xb0d1) % 100;
            let second = begin + (visit * 3_600 / (USERS / 200)).cast_signed();
            let at = chrono::DateTime::from_timestamp(second, 0)
                .ok_or_else(|| std::io::Error::other("a time outside the calendar"))?
                .to_rfc3339();
            writeln!(out, "user-{user},{at},Product Viewed,")?;
            count += 1;
            if (random >> 32) % 100 < inclination / 4 {
                let cents = 500 + (random >> 40) % 10_000;
                writeln!(
                    out,
                    "user-{user},{at},Order Completed,{}.{:02}",
                    cents / 100,
                    cents % 100
                )?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// SplitMix64 (Steele, Lea, Flood 2014): a number that looks random, always the same for the same input.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_batch_is_json_with_distinct_ids() {
        let mut body = Vec::new();
        Events::new("p").batch(7, 100, &mut body);
        let batch: Value = serde_json::from_slice(&body).unwrap();
        let events = batch["batch"].as_array().unwrap();
        assert_eq!(events.len(), 100);
        assert_eq!(events[0]["messageId"], "p-7");
        assert_eq!(events[99]["messageId"], "p-106");
        assert!(
            events
                .iter()
                .any(|event| event["event"] == "Order Completed")
        );
        assert!(
            body.len() < 500_000,
            "{} bytes are more than a batch may be",
            body.len()
        );
        let mut again = Vec::new();
        Events::new("p").batch(7, 100, &mut again);
        assert_eq!(body, again);
    }

    #[test]
    fn the_history_is_sorted_and_has_buyers() {
        let mut csv = Vec::new();
        let count = write_history(&mut csv, 1_700_000_000, 3).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        let times: Vec<&str> = csv
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(1).unwrap())
            .collect();
        assert_eq!(times.len() as u64, count);
        assert!(times.is_sorted());
        let orders = csv.matches("Order Completed").count() as u64;
        assert!(
            orders > count / 50 && orders < count / 3,
            "{orders} of {count}"
        );
    }
}
