//! Uncertainties and trajectories: their tables, and what the page says of them.

use super::{assert_balanced, by_hand, costs, provenance, read, typical, written};
use crate::frontier::Results;
use crate::measure::Measured;
use crate::measure::moments::{Figure, Figures, PerFeature};
use crate::measure::uncertainty::{Answer, Unit};
use crate::spec::{Domain, Measure, MeasuredLoss, NamedMeasure, Uncertainty};

fn named(name: &str, domain: Domain) -> NamedMeasure {
    let radius = (domain == Domain::Box).then_some(0.1);
    let asked = Uncertainty { domain, radius, samples: 1024, loss: MeasuredLoss::Ce, clip: true };
    NamedMeasure { name: name.into(), measure: Measure::Uncertainty(asked), examples: 4, epochs: None }
}

/// Two units of class 1, one of class 3, and one of class 3 on which psi is not defined.
fn answer(dp: f64) -> Answer {
    let figure = |value: f64| Figure { value, se: 0.01 };
    let figures = |dx: f64| Figures {
        dx: figure(dx),
        dp: figure(dp),
        product: figure(dx * dp),
        bound: figure(dx * dp / 2.0),
        effective: 400.0,
    };
    let features = [Some(PerFeature { dx: 0.05, dp, c: -0.25 }), None];
    let mut answer = Answer::default();
    answer.push(Unit { class: 1, figures: Some(figures(0.05)) }, &features);
    answer.push(Unit { class: 3, figures: Some(figures(0.06)) }, &features);
    answer.push(Unit { class: 1, figures: Some(figures(0.07)) }, &features);
    answer.push(Unit { class: 3, figures: None }, &features);
    answer
}

/// `by_hand` with the box measured on the first trial, and a plane on none yet.
fn measured_by_hand() -> Results {
    let mut results = by_hand();
    results.measures = vec![named("uncertainty", Domain::Box), named("uncertainty(domain=plane)", Domain::Plane)];
    results.trials[0].checkpoints[0].measured = vec![Some(Measured::Uncertainty(answer(4.0))), None];
    results
}

/// `typical`, measured everywhere.
fn measured() -> Results {
    let mut results = typical();
    results.measures = vec![named("uncertainty", Domain::Box)];
    for (t, trial) in results.trials.iter_mut().enumerate() {
        for checkpoint in &mut trial.checkpoints {
            let dp = 20.0 + f64::from(checkpoint.epoch) + t as f64 / 10.0;
            checkpoint.measured = vec![Some(Measured::Uncertainty(answer(dp)))];
        }
    }
    results
}

#[test]
fn uncertainties_have_a_row_per_class_that_is_there_and_one_for_all() {
    let (_dir, written) = written("r", &measured_by_hand());
    insta::assert_snapshot!(read(&written, "uncertainty.csv"), @r"
    trial,model,seed,epoch,class,dx,dp,product,bound,dx_se,dp_se,product_se,bound_se,samples,measure,domain,radius,loss,units,undefined,dx_sd,dp_sd,product_sd,bound_sd,effective_samples,below_half
    t0,mlp,0,1,1,0.06,4,0.24,0.12,0.00707107,0.00707107,0.00707107,0.00707107,1024,uncertainty,box,0.1,ce,2,0,0.0141421,0,0.0565685,0.0282843,400,2
    t0,mlp,0,1,3,0.06,4,0.24,0.12,0.01,0.01,0.01,0.01,1024,uncertainty,box,0.1,ce,1,1,,,,,400,1
    t0,mlp,0,1,all,0.06,4,0.24,0.12,0.0057735,0.0057735,0.0057735,0.0057735,1024,uncertainty,box,0.1,ce,3,1,0.01,0,0.04,0.02,400,3
    ");
}

#[test]
fn trajectories_join_accuracies_and_uncertainties() {
    let (_dir, written) = written("r", &measured_by_hand());
    insta::assert_snapshot!(read(&written, "trajectory.csv"), @r"
    trial,model,seed,epoch,epsilon,clean_accuracy,robust_accuracy,median_break,measure,dx,dp,product,bound,dx_se,dp_se,product_se,bound_se,area,config
    t0,mlp,0,1,0.1,0.750000,0.750000,0.30000000000000004,uncertainty,0.06,4,0.24,0.12,0.0057735,0.0057735,0.0057735,0.0057735,0.666667,c0
    t0,mlp,0,1,0.30000000000000004,0.750000,0.500000,0.30000000000000004,uncertainty,0.06,4,0.24,0.12,0.0057735,0.0057735,0.0057735,0.0057735,0.666667,c0
    t1,mlp,1,1,0.1,0.750000,0.500000,0.1,,,,,,,,,,0.541667,c0
    t1,mlp,1,1,0.30000000000000004,0.750000,0.500000,0.1,,,,,,,,,,0.541667,c0
    ");
}

#[test]
fn features_have_a_row_each_in_parquet() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;
    let (_dir, written) = written("r", &measured_by_hand());
    let path = written.files.iter().find(|p| p.ends_with("uncertainty_features.parquet")).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 * 2, "two classes and all, two features");
    let (class, feature) =
        (|row: usize| rows[row].get_string(3).unwrap().as_str(), |row: usize| rows[row].get_long(4).unwrap());
    assert_eq!(((class(0), feature(1)), (class(4), feature(4))), (("1", 1), ("all", 0)));
    let real = |row: usize, column: usize| rows[row].get_double(column).unwrap();
    assert!((real(0, 5) - 0.05).abs() < 1e-6 && (real(0, 7) - 0.2).abs() < 1e-6 && (real(0, 8) - 0.25).abs() < 1e-6);
    assert_eq!((real(1, 5), rows[4].get_long(9).unwrap()), (0.0, 3));
}

#[test]
fn the_page_explains_a_product_below_one_half_and_a_psi_that_is_not_there() {
    let (_dir, written) = written("r", &measured());
    let page = read(&written, "index.html");
    assert_balanced("measured", &page);
    assert!(!page.contains("NaN") && page.contains("Over the epochs") && page.contains("The uncertainty relation"));
    assert!(!page.contains("contradicts nothing"), "dx dp is above 1/2 everywhere here");
    assert!(page.contains("psi is not defined"));
    let sheet = read(&written, "trajectory.svg");
    assert_balanced("trajectory", &sheet);
    assert!(sheet.contains("bound |C|") && !sheet.contains("NaN"));

    let mut small = measured();
    small.trials[0].checkpoints.last_mut().unwrap().measured = vec![Some(Measured::Uncertainty(answer(1.0)))];
    let (_dir, written) = super::written("r", &small);
    assert!(read(&written, "index.html").contains("The product is below 1/2 in 3 of "));
}

#[test]
fn without_measures_and_epochs_there_is_no_such_file() {
    let (dir, _) = written("r", &measured());
    let folder = dir.path().join("r");
    let named = |word: &str| {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(word)).count()
    };
    assert_eq!((named("uncertainty"), named("trajectory")), (3, 3));
    super::super::write(&folder, &by_hand(), &costs(), &provenance()).unwrap();
    assert_eq!((named("uncertainty"), named("trajectory")), (0, 0), "nothing of an older report stays");
}
