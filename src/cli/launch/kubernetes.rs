//! `epsweep launch kubernetes FILE`: renders what runs a sweep on Kubernetes, and applies it on request.

use crate::cli::{plan, printer};
use crate::launch::kubernetes::{Image, Request, render};
use crate::program::{Exit, Failure, note};
use crate::transport::make_certs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Days that the certificates are good for; the same command again renews them.
const DAYS: i64 = 365;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file
    file: PathBuf,
    /// The worker's image, NAME:TAG; deploy/docker says how to build it
    #[arg(long, value_name = "IMAGE")]
    image: Option<Image>,
    /// The coordinator's image, NAME:TAG
    #[arg(long, value_name = "IMAGE")]
    coordinator_image: Option<Image>,
    /// Worker pods
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: u32,
    /// GPUs of each worker; 0 computes on CPUs
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    gpus_per_worker: u32,
    /// Tasks at a time in each worker, one core each [default: 4, or one for each GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots_per_worker: Option<u32>,
    /// The namespace [default: that of kubectl's context]
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// A PersistentVolumeClaim with data sets and weights, mounted read-only at /data, where the sweep's relative
    /// paths start
    #[arg(long, value_name = "CLAIM")]
    data_claim: Option<String>,
    /// Size of the coordinator's volume [default: 20Gi]
    #[arg(long, value_name = "SIZE")]
    storage: Option<String>,
    /// Its storage class [default: the cluster's]
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Make no certificates: the Secrets epsweep-{server,worker,client,probe}-tls are there already
    #[arg(long)]
    no_certs: bool,
    /// Where the manifests go [default: runs/NAME/kubernetes]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also run `kubectl apply -k DIR`
    #[arg(long)]
    apply: bool,
}

pub fn kubernetes(args: Args) -> Result<Exit, Failure> {
    if args.workers == 0 {
        return Err(Failure::usage(miette::miette!("--workers 0 would compute nothing")));
    }
    let (yaml, _) = plan::read(&args.file)?;
    let request = Request {
        yaml,
        source: args.file.display().to_string(),
        workers: args.workers,
        gpus_per_worker: args.gpus_per_worker,
        slots_per_worker: args.slots_per_worker.unwrap_or(if args.gpus_per_worker > 0 {
            args.gpus_per_worker
        } else {
            4
        }),
        worker_image: image(args.image, "--image", "worker")?,
        coordinator_image: image(args.coordinator_image, "--coordinator-image", "coordinator")?,
        namespace: args.namespace,
        data_claim: args.data_claim,
        storage: args.storage,
        storage_class: args.storage_class,
        make_secrets: !args.no_certs,
    };
    let rendered = render(&request).map_err(Failure::usage)?;
    let out = args.out.unwrap_or_else(|| plan::default_dir(&rendered.name).join("kubernetes"));
    write(&out, &rendered.files)
        .map_err(|error| Failure::usage(miette::miette!("cannot write {}: {error}", out.display())))?;
    if request.make_secrets {
        make_certs(&out.join("tls/certs"), &rendered.hosts, &[], DAYS).map_err(Failure::usage)?;
    }
    printer::line(out.display());
    if args.apply {
        apply(&out)?;
    }
    say_next(&out, &request, &rendered.name, args.apply);
    Ok(Exit::Done)
}

/// Where images lie is for people to say: there is no public place that has them.
fn image(given: Option<Image>, option: &str, which: &str) -> Result<Image, Failure> {
    given.ok_or_else(|| {
        let help = format!(
            "build it (`docker build -f deploy/docker/{which}.Dockerfile -t HOST/epsweep-{which}:TAG .`), push it where the cluster pulls from, and name it with {option}"
        );
        Failure::usage(miette::miette!(help = help, "{option} is missing: which image is the {which}'s?"))
    })
}

fn write(out: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    for (place, text) in files {
        let path = out.join(place);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

fn apply(out: &Path) -> Result<(), Failure> {
    let status = Command::new("kubectl").arg("apply").arg("-k").arg(out).status().map_err(|error| {
        let help = format!("install it, or apply the manifests where it is: kubectl apply -k {}", printer::quoted(out));
        match error.kind() {
            ErrorKind::NotFound => Failure::usage(miette::miette!(help = help, "there is no kubectl on the PATH")),
            _ => Failure::usage(miette::miette!(help = help, "kubectl cannot be started: {error}")),
        }
    })?;
    if status.success() {
        return Ok(());
    }
    let help = format!("what it said stands above; the manifests are in {}", out.display());
    Err(Failure::usage(miette::miette!(help = help, "kubectl apply failed ({status})")))
}

fn say_next(out: &Path, request: &Request, name: &str, applied: bool) {
    let dir = printer::quoted(out);
    let namespace = request.namespace.as_ref().map(|name| format!(" -n {name}")).unwrap_or_default();
    let first = if applied { String::new() } else { format!("  kubectl apply -k {dir}\n") };
    let client = match request.make_secrets {
        true => format!(" --tls-dir {dir}/tls/certs/client"),
        false => " --tls-dir DIR".into(),
    };
    note(format_args!(
        "Next:\n{first}  \
         kubectl{namespace} port-forward statefulset/epsweep-coordinator 7070 &\n  \
         epsweep watch {name} --to localhost:7070{client}\n  \
         kubectl{namespace} cp epsweep-coordinator-0:/state/reports/{name} {name}-report\n  \
         kubectl{namespace} scale deployment/epsweep-worker --replicas 0     # when it is done: idle workers stay"
    ));
}
