// MigrationSession
