CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO experiments ("experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time", "workspace") VALUES (0, 'Default', '{root}/mlruns/0', 'active', 1795203925189, 1795203925189, 'default');
INSERT INTO experiments ("experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time", "workspace") VALUES (1, 'digits', 'file://{root}/art', 'active', 1795203925204, 1795203925204, 'default');
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO runs ("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id", "deleted_time") VALUES ('13ebfb8042294b0abf80fcc70f0f7411', 'parent run: a long name with many words with many words with many words with many words with many words with many words with many words with many words ', 'UNKNOWN', '', '', 'unknown', 'FINISHED', 1700000000123, 1700000009000, '', 'active', 'file://{root}/art/13ebfb8042294b0abf80fcc70f0f7411/artifacts', 1, NULL);
INSERT INTO runs ("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id", "deleted_time") VALUES ('c77e957e85134813b1410f67313df418', 'child', 'UNKNOWN', '', '', 'unknown', 'KILLED', 1700000001123, 1700000009500, '', 'active', 'file://{root}/art/c77e957e85134813b1410f67313df418/artifacts', 1, NULL);
INSERT INTO runs ("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id", "deleted_time") VALUES ('9c0130ded36749bd9f7008ecee29fa76', 'deleted', 'UNKNOWN', '', '', 'unknown', 'RUNNING', 1700000001124, NULL, '', 'deleted', 'file://{root}/art/9c0130ded36749bd9f7008ecee29fa76/artifacts', 1, 1795203925366);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO params ("key", "value", "run_uuid") VALUES ('lr', '0.1', '13ebfb8042294b0abf80fcc70f0f7411');
INSERT INTO params ("key", "value", "run_uuid") VALUES ('multi', 'a: b
# c', '13ebfb8042294b0abf80fcc70f0f7411');
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('loss', 1.0, 1700000002000, '13ebfb8042294b0abf80fcc70f0f7411', 0, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('loss', 0.5, 1700000002001, '13ebfb8042294b0abf80fcc70f0f7411', 1, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('loss', 0.3333333333333333, 1700000002002, '13ebfb8042294b0abf80fcc70f0f7411', 2, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('loss', 0.25, 1700000002003, '13ebfb8042294b0abf80fcc70f0f7411', 3, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('sub/acc', 0.5, 1700000003000, '13ebfb8042294b0abf80fcc70f0f7411', 0, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('bad', 0.0, 1700000003001, '13ebfb8042294b0abf80fcc70f0f7411', 1, 1);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('bad', 1.7976931348623157e+308, 1700000003002, '13ebfb8042294b0abf80fcc70f0f7411', 2, 0);
INSERT INTO metrics ("key", "value", "timestamp", "run_uuid", "step", "is_nan") VALUES ('bad', -1.7976931348623157e+308, 1700000003003, '13ebfb8042294b0abf80fcc70f0f7411', 0, 0);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('mlflow.runName', 'parent run: a long name with many words with many words with many words with many words with many words with many words with many words with many words ', '13ebfb8042294b0abf80fcc70f0f7411');
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('mlflow.parentRunId', '13ebfb8042294b0abf80fcc70f0f7411', 'c77e957e85134813b1410f67313df418');
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('mlflow.note.content', 'a note', 'c77e957e85134813b1410f67313df418');
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('mlflow.runName', 'child', 'c77e957e85134813b1410f67313df418');
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('team', 'x', '13ebfb8042294b0abf80fcc70f0f7411');
INSERT INTO tags ("key", "value", "run_uuid") VALUES ('mlflow.runName', 'deleted', '9c0130ded36749bd9f7008ecee29fa76');
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
