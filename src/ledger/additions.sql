-- What was added after schema version 1 first shipped. Runs whenever a ledger is opened for writing.

-- What a training run said about a checkpoint besides its weights: JSON of plan::facts::Facts.
CREATE TABLE IF NOT EXISTS checkpoint_facts (
  train BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  facts TEXT NOT NULL,
  PRIMARY KEY (train, epoch)
) WITHOUT ROWID;

-- Documented: the same by trial. `epoch` is the one that was asked for, `weights_epoch` the one whose weights these are.
CREATE VIEW IF NOT EXISTS facts AS
  SELECT DISTINCT t.trial, f.epoch, coalesce(json_extract(f.facts, '$.epoch'), f.epoch) AS weights_epoch,
         json_extract(f.facts, '$.validation_accuracy') AS validation_accuracy,
         json_extract(f.facts, '$.fgsm_accuracy') AS fgsm_accuracy,
         json_extract(f.facts, '$.pgd_accuracy') AS pgd_accuracy,
         json_extract(f.facts, '$.collapsed') AS collapsed
  FROM sweep_trials t JOIN checkpoint_facts f ON f.train = t.train;
