CREATE TABLE metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        step INTEGER NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
INSERT INTO metrics ("id", "run_id", "timestamp", "run_name", "step", "metrics", "log_id", "space_id") VALUES (1, '7d9e6904ba184445a4fafda1e414f1a8', '2026-11-20T19:45:16.227922+00:00', 'run-a', 0, X'7b226c6f7373223a312e302c226e6573746564223a7b2278223a307d7d', '1f7e2f55f32740258d227bfcca10b4bc', NULL);
INSERT INTO metrics ("id", "run_id", "timestamp", "run_name", "step", "metrics", "log_id", "space_id") VALUES (2, '7d9e6904ba184445a4fafda1e414f1a8', '2026-11-20T19:45:16.227922+00:00', 'run-a', 1, X'7b226c6f7373223a302e352c226e6573746564223a7b2278223a317d7d', 'f938523cd13348e7bc0e82e23075515a', NULL);
INSERT INTO metrics ("id", "run_id", "timestamp", "run_name", "step", "metrics", "log_id", "space_id") VALUES (3, '7d9e6904ba184445a4fafda1e414f1a8', '2026-11-20T19:45:16.227922+00:00', 'run-a', 2, X'7b226c6f7373223a302e333333333333333333333333333333332c226e6573746564223a7b2278223a327d7d', 'f059f52a8598446ea231a03ff395c1ab', NULL);
INSERT INTO metrics ("id", "run_id", "timestamp", "run_name", "step", "metrics", "log_id", "space_id") VALUES (4, '7d9e6904ba184445a4fafda1e414f1a8', '2026-11-20T19:45:16.227922+00:00', 'run-a', 3, X'7b226c6f7373223a302e32352c226e6573746564223a7b2278223a337d7d', 'ed7604cad7034f6cb0d7b71aafddcb05', NULL);
INSERT INTO metrics ("id", "run_id", "timestamp", "run_name", "step", "metrics", "log_id", "space_id") VALUES (5, '7d9e6904ba184445a4fafda1e414f1a8', '2026-11-20T19:45:16.227922+00:00', 'run-a', 9, X'7b22626164223a224e614e222c22776f727365223a22496e66696e697479222c226c6f77223a222d496e66696e697479222c22776f7264223a22747874227d', '133c99bcbf284d5db3d5e65f145a0d55', NULL);
CREATE TABLE configs (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        config TEXT NOT NULL,
                        created_at TEXT NOT NULL,
                        UNIQUE(run_id)
                    );
INSERT INTO configs ("id", "run_id", "run_name", "config", "created_at") VALUES (1, '7d9e6904ba184445a4fafda1e414f1a8', 'run-a', X'7b226c72223a302e312c2264656570223a7b2261223a317d2c225f557365726e616d65223a6e756c6c2c225f43726561746564223a22323032362d31312d32305431393a34353a31362e3232353337362b30303a3030222c225f47726f7570223a6e756c6c7d', '2026-11-20T19:45:16.277627+00:00');
CREATE TABLE system_metrics (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        run_id TEXT NOT NULL,
                        timestamp TEXT NOT NULL,
                        run_name TEXT NOT NULL,
                        metrics TEXT NOT NULL
                    , log_id TEXT, space_id TEXT);
