//! Answers: what is added, joined, averaged and refused.

use super::*;

fn figures(dx: f64, se: f64) -> Figures {
    let figure = |value| Figure { value, se };
    Figures { dx: figure(dx), dp: figure(2.0), product: figure(0.6 * dx), bound: figure(0.1), effective: 100.0 * dx }
}

fn unit(class: u32, dx: f64) -> Unit {
    Unit { class, figures: Some(figures(dx, 0.3)) }
}

const HERE: [Option<PerFeature>; 3] =
    [Some(PerFeature { dx: 1.0, dp: 2.0, c: -0.5 }), None, Some(PerFeature { dx: 3.0, dp: 0.5, c: 0.25 })];

fn answer(units: &[Unit]) -> Answer {
    let mut answer = Answer::default();
    units.iter().for_each(|unit| answer.push(unit.clone(), &HERE));
    answer
}

#[test]
fn classes_are_averaged_with_the_error_and_the_spread_of_their_units() {
    let units = [unit(3, 1.0), unit(1, 0.5), unit(3, 2.0), Unit { class: 3, figures: None }];
    let rows = answer(&units).by_class();
    assert_eq!(rows.iter().map(|row| row.class).collect::<Vec<_>>(), [Some(1), Some(3), None]);
    assert_eq!((rows[1].units, rows[1].undefined, rows[2].units, rows[2].undefined), (2, 1, 3, 1));
    let three = rows[1].means.unwrap();
    assert_eq!(three.dx.value, 1.5);
    assert!((three.dx.se - 0.3 / 2f64.sqrt()).abs() < 1e-12, "the errors of the units are independent");
    assert!((three.dx.sd.unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
    assert_eq!((three.dp.value, three.dp.sd), (2.0, Some(0.0)));
    assert_eq!(three.below_half, 0);
    let one = rows[0].means.unwrap();
    assert_eq!((one.dx.value, one.dx.sd, one.below_half), (0.5, None, 1), "0.6 * 0.5 < 1/2");
}

#[test]
fn a_class_without_figures_has_no_means_and_no_class_means_no_row() {
    let nowhere = answer(&[Unit { class: 2, figures: None }]);
    let rows = nowhere.by_class();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.means.is_none() && row.undefined == 1));
    assert!(nowhere.features.is_empty());
    assert!(Answer::default().by_class().is_empty());
}

#[test]
fn joined_answers_are_what_one_task_would_have_said() {
    let units = [unit(3, 1.0), unit(1, 0.5), unit(3, 2.0), unit(0, 4.0)];
    let mut joined = answer(&units[..1]);
    joined.append(answer(&units[1..2]));
    joined.append(answer(&units[2..]));
    assert_eq!(joined, answer(&units));
    let all = joined.all_features().unwrap();
    assert_eq!(all.units, 4);
    assert_eq!(all.sums, [vec![4.0, 0.0, 12.0], vec![8.0, 0.0, 2.0], vec![8.0, 0.0, 6.0], vec![2.0, 0.0, 1.0]]);
}

#[test]
fn answers_survive_the_wire() {
    let answer = answer(&[unit(3, 1.0 / 3.0), Unit { class: 3, figures: None }]);
    let json = serde_json::to_string(&answer).unwrap();
    assert!(json.contains(r#""dx":[0.3333333333333333,0.3]"#), "{json}");
    assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer);
}

#[test]
fn what_cannot_be_is_refused() {
    let good = answer(&[unit(3, 1.0), unit(1, 0.5)]);
    assert_eq!(good.check([4, 6]), Ok(()));
    assert!(good.check([4, 7]).is_err(), "a unit is missing");
    assert!(good.check([6, 4]).is_err());
    let spoilt = |spoil: &dyn Fn(&mut Answer)| {
        let mut answer = good.clone();
        spoil(&mut answer);
        answer.check([0, 2])
    };
    assert!(spoilt(&|answer| answer.units[0].figures = Some(figures(f64::NAN, 0.1))).is_err());
    assert!(spoilt(&|answer| answer.units[0].figures = Some(figures(1.0, -0.1))).is_err());
    assert!(spoilt(&|answer| answer.units[0].class = 256).is_err());
    assert!(spoilt(&|answer| answer.features[0].sums[1][0] = f32::INFINITY).is_err());
    assert!(spoilt(&|answer| answer.features[0].sums[1].truncate(1)).is_err());
    assert!(spoilt(&|answer| answer.features.reverse()).is_err());
}
