//! `epsweep certs`: certificates to try TLS with.

use super::printer;
use crate::program::{Exit, Failure, note};
use crate::transport::make_certs;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the CA goes, and a folder for each --tls-dir; an existing CA is gone on with
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What workers and clients call the coordinator by: a name or an address; may be repeated.
    /// localhost and this machine's name are always among them
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// A further certificate, such as worker/gpu-7; may be repeated
    #[arg(long, value_name = "ROLE/NAME")]
    peer: Vec<String>,
    /// How long certificates are good
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

pub fn certs(args: &Args) -> Result<Exit, Failure> {
    let made = make_certs(&args.out, &args.host, &args.peer, args.days.into()).map_err(Failure::usage)?;
    for folder in &made.folders {
        printer::line(folder.display());
    }
    let (dir, host) = (args.out.display(), args.host.first().map_or("127.0.0.1", String::as_str));
    let ca = if made.old_ca { "signed by the CA that was there" } else { "a new CA" };
    note(format_args!(
        "{ca}; good for {} days. Next:\n  \
         epsweep serve --state state --listen 0.0.0.0:7070 --tls-dir {dir}/server\n  \
         epsweep-worker --connect {host}:7070 --tls-dir {dir}/worker\n  \
         epsweep submit FILE --to {host}:7070 --tls-dir {dir}/client\n\
         Give each machine its own folder alone. {dir}/ca-key.pem makes new certificates: it belongs on none of them.\n\
         The same command renews the certificates; programs at work notice.",
        args.days
    ));
    Ok(Exit::Done)
}
