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

-- The adversarial examples of an evaluation that asked for them: a file in witnesses/.
CREATE TABLE IF NOT EXISTS witness_files (
  task BLOB PRIMARY KEY,
  artifact TEXT NOT NULL,
  count INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) WITHOUT ROWID;

-- What an evaluation noticed about network and attack: JSON of trust::Trust.
CREATE TABLE IF NOT EXISTS trust (task BLOB PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;

-- What was measured: zlib-compressed JSON of measure::MeasureAnswer.
CREATE TABLE IF NOT EXISTS measure_answers (task BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID;

-- Documented: which file holds the adversarial examples of a checkpoint, attack and shard.
CREATE VIEW IF NOT EXISTS witnesses AS
  SELECT s.name AS sweep, t.trial, t.config, t.seed, k.epoch, k.attack, e.first AS first_example, w.artifact, w.count, w.bytes
  FROM live_sweeps s
  JOIN sweep_tasks k ON k.sweep = s.id AND k.kind = 'evaluate'
  JOIN sweep_trials t ON t.sweep = s.id AND t.position = k.trial
  JOIN evaluate_answers e ON e.task = k.task
  JOIN witness_files w ON w.task = k.task;

-- One row per test example and certificate: the largest epsilon of the grid that is certified, 0 for
-- the clean image alone, NULL when not even that.
CREATE VIEW IF NOT EXISTS certified AS
  SELECT s.name AS sweep, t.trial, t.config, t.seed, k.epoch, k.attack AS certificate, e.first + l.key AS example,
         CASE l.value WHEN 0 THEN NULL WHEN 1 THEN 0.0
              ELSE json_extract(e.epsilons, '$[' || (l.value - 2) || ']') END AS certified_to
  FROM live_sweeps s
  JOIN sweep_tasks k ON k.sweep = s.id AND k.kind = 'certify'
  JOIN sweep_trials t ON t.sweep = s.id AND t.position = k.trial
  JOIN evaluate_answers e ON e.task = k.task
  JOIN json_each(e.levels) l;

-- Training runs that have not come to their end: the furthest state that a worker has sent, a file in unfinished/.
CREATE TABLE IF NOT EXISTS unfinished (train BLOB PRIMARY KEY, artifact TEXT NOT NULL, step INTEGER NOT NULL) WITHOUT ROWID;

-- What people asked of a sweep besides its file: its weight in the sharing of slots, and why it is paused (NULL: it is not).
CREATE TABLE IF NOT EXISTS steering (
  sweep INTEGER PRIMARY KEY REFERENCES sweeps(id) ON DELETE CASCADE,
  priority INTEGER NOT NULL,
  paused TEXT
);

-- The end of the worker's log, beside the attempt that failed.
CREATE TABLE IF NOT EXISTS attempt_logs (
  task BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  log TEXT NOT NULL,
  PRIMARY KEY (task, attempt)
) WITHOUT ROWID;
