//! `epsweep schema`: for editors that complete and check YAML.

use super::printer;
use crate::program::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn schema(_args: &Args) -> Result<Exit, Failure> {
    printer::json(&crate::spec::schema());
    Ok(Exit::Done)
}
