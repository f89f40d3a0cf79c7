//! Time limits as Slurm writes them.

/// How long a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    Seconds(u64),
    Unlimited,
}

/// `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
/// `days-hours:minutes:seconds`, or a word for no limit; `None` for anything else.
pub fn parse_time(text: &str) -> Option<TimeLimit> {
    if ["unlimited", "infinite"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(TimeLimit::Unlimited);
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(number(days)?), clock),
        None => (None, text),
    };
    let parts: Option<Vec<u64>> = clock.split(':').map(number).collect();
    let (hours, minutes, seconds) = match (days, parts?.as_slice()) {
        (None, &[minutes]) => (0, minutes, 0),
        (None, &[minutes, seconds]) => (0, minutes, seconds),
        (Some(_), &[hours]) => (hours, 0, 0),
        (Some(_), &[hours, minutes]) => (hours, minutes, 0),
        (_, &[hours, minutes, seconds]) => (hours, minutes, seconds),
        _ => return None,
    };
    Some(TimeLimit::Seconds(days.unwrap_or(0) * 86_400 + hours * 3600 + minutes * 60 + seconds))
}

/// Small enough that sums of them cannot overflow.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_slurms_manual_is_read() {
        for (text, seconds) in [
            ("90", 5400),
            ("2:30", 150),
            ("4:00:00", 14_400),
            ("1-0", 86_400),
            ("1-2", 93_600),
            ("1-02:03", 93_780),
            ("2-00:00:01", 172_801),
            ("0:45", 45),
        ] {
            assert_eq!(parse_time(text), Some(TimeLimit::Seconds(seconds)), "{text}");
        }
        assert_eq!(parse_time("UNLIMITED"), Some(TimeLimit::Unlimited));
        for wrong in ["", "4h", "1:2:3:4", "1-", "-1", "1-2:3:4:5", "99999999999", "INVALID", "NOT_SET", "1.5"] {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }
}
