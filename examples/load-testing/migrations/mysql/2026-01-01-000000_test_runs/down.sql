DROP TABLE test_runs;
