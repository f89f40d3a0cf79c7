use super::study::Study;
pub fn files(_: &Study) -> Vec<(&'static str, String)> {
    Vec::new()
}
