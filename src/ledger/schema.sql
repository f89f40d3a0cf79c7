-- The ledger, schema version 1. Tables are epsweep's own; the views at the end are documented and stable.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Every file that was ever handed in. A name's newest row is the live one.
CREATE TABLE sweeps (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  yaml TEXT NOT NULL,
  source TEXT NOT NULL,            -- the file's name
  base_dir TEXT NOT NULL,          -- where its relative paths start
  data TEXT NOT NULL,              -- JSON of data::DataInfo
  norm TEXT NOT NULL,
  epsilons TEXT NOT NULL,          -- JSON list, as asked for
  submitted_ms INTEGER NOT NULL,   -- Unix time
  state TEXT NOT NULL,             -- running, finished, cancelled, replaced
  ended_ms INTEGER
);

CREATE TABLE sweep_trials (
  sweep INTEGER NOT NULL REFERENCES sweeps(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  trial TEXT NOT NULL,
  train BLOB NOT NULL,             -- key of the training task
  config TEXT NOT NULL,
  axes TEXT NOT NULL,              -- JSON object
  seed INTEGER NOT NULL,
  PRIMARY KEY (sweep, position)
) WITHOUT ROWID;

CREATE TABLE sweep_tasks (
  sweep INTEGER NOT NULL REFERENCES sweeps(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  task BLOB NOT NULL,
  kind TEXT NOT NULL,
  trial INTEGER NOT NULL,          -- position in sweep_trials
  epoch INTEGER,
  attack TEXT,                     -- or the certificate, or the measure, by kind
  PRIMARY KEY (sweep, position)
) WITHOUT ROWID;

-- What has happened to tasks, in order: engine::Record. Replayed through the engine on start.
CREATE TABLE history (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,          -- Unix time
  event TEXT NOT NULL,             -- leased, released, committed, failed, revived
  task BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  worker TEXT,
  detail TEXT                      -- JSON, by event
);

CREATE INDEX history_by_task ON history (task);

CREATE TABLE train_answers (
  train BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  train_loss REAL NOT NULL,
  train_seconds REAL NOT NULL,
  artifact TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (train, epoch)
) WITHOUT ROWID;

CREATE TABLE evaluate_answers (
  task BLOB PRIMARY KEY,
  family BLOB NOT NULL,
  epsilons TEXT NOT NULL,          -- JSON list, positive, ascending
  first INTEGER NOT NULL,          -- index of the shard's first test example
  levels TEXT NOT NULL             -- JSON list, one per example: 0 misclassified, k broken from epsilons[k-1] on
) WITHOUT ROWID;
CREATE INDEX evaluate_answers_by_family ON evaluate_answers (family);

CREATE TABLE costs (
  task BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  kind TEXT NOT NULL,
  worker TEXT NOT NULL,
  seconds REAL NOT NULL,
  forwards INTEGER NOT NULL,
  backwards INTEGER NOT NULL,
  examples INTEGER NOT NULL,
  PRIMARY KEY (task, attempt)
) WITHOUT ROWID;

CREATE TABLE workers (
  worker TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  slots INTEGER NOT NULL,
  device TEXT NOT NULL,
  version TEXT NOT NULL,
  libtorch TEXT NOT NULL,
  first_seen_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- ---- documented views ------------------------------------------------------------------------

CREATE VIEW live_sweeps AS
  SELECT * FROM sweeps WHERE id IN (SELECT max(id) FROM sweeps GROUP BY name);

CREATE VIEW trials AS
  SELECT s.name AS sweep, t.trial, t.config, t.axes, t.seed, a.epoch, a.train_loss, a.train_seconds
  FROM live_sweeps s JOIN sweep_trials t ON t.sweep = s.id
  LEFT JOIN train_answers a ON a.train = t.train;

CREATE VIEW checkpoints AS
  SELECT DISTINCT t.trial, a.epoch, a.artifact, a.bytes, a.train_loss, a.train_seconds
  FROM sweep_trials t JOIN train_answers a ON a.train = t.train;

-- One row per test example: the epsilon it breaks from, 0 when misclassified, NULL when it withstood all.
CREATE VIEW outcomes AS
  SELECT s.name AS sweep, t.trial, t.config, t.seed, k.epoch, k.attack, e.first + l.key AS example,
         CASE l.value WHEN 0 THEN 0.0 ELSE json_extract(e.epsilons, '$[' || (l.value - 1) || ']') END AS broken_from
  FROM live_sweeps s
  JOIN sweep_tasks k ON k.sweep = s.id AND k.kind = 'evaluate'
  JOIN sweep_trials t ON t.sweep = s.id AND t.position = k.trial
  JOIN evaluate_answers e ON e.task = k.task
  JOIN json_each(e.levels) l;

-- Robust accuracy of each checkpoint under each attack.
CREATE VIEW curves AS
  SELECT o.sweep, o.trial, o.config, o.seed, o.epoch, o.attack, x.value AS epsilon, count(*) AS n,
         sum(o.broken_from IS NULL OR o.broken_from > x.value) AS robust,
         avg(o.broken_from IS NULL OR o.broken_from > x.value) AS robust_accuracy
  FROM outcomes o JOIN live_sweeps s ON s.name = o.sweep JOIN json_each(s.epsilons) x
  GROUP BY o.sweep, o.trial, o.epoch, o.attack, x.value;

-- Configurations over seeds, worst case over attacks, and whether another one is better in both accuracies.
-- Checkpoints take part once every attack has answered for every example: until then the worst case is not known.
CREATE VIEW frontier AS
  WITH complete AS (
    SELECT s.name AS sweep, t.trial, k.epoch
    FROM live_sweeps s
    JOIN sweep_tasks k ON k.sweep = s.id AND k.kind = 'evaluate'
    JOIN sweep_trials t ON t.sweep = s.id AND t.position = k.trial
    LEFT JOIN evaluate_answers e ON e.task = k.task
    GROUP BY s.name, t.trial, k.epoch HAVING count(*) = count(e.task)),
  worst AS (
    SELECT sweep, trial, config, seed, epoch, example,
           min(coalesce(broken_from, 9e999)) AS broken_from
    FROM outcomes JOIN complete USING (sweep, trial, epoch)
    GROUP BY sweep, trial, epoch, example),
  points AS (
    SELECT w.sweep, w.config, w.epoch, x.value AS epsilon, count(DISTINCT w.seed) AS seeds,
           avg(w.broken_from > 0) AS clean_accuracy, avg(w.broken_from > x.value) AS robust_accuracy
    FROM worst w JOIN live_sweeps s ON s.name = w.sweep JOIN json_each(s.epsilons) x
    GROUP BY w.sweep, w.config, w.epoch, x.value)
  SELECT p.*, NOT EXISTS (
           SELECT 1 FROM points q WHERE q.sweep = p.sweep AND q.epsilon = p.epsilon
             AND q.clean_accuracy >= p.clean_accuracy AND q.robust_accuracy >= p.robust_accuracy
             AND (q.clean_accuracy > p.clean_accuracy OR q.robust_accuracy > p.robust_accuracy)) AS on_frontier
  FROM points p;
