/// Names of commands for those who watch, or send them in somebody else's name; the session alone
/// decides on commands.
enum QEMUCommandName {
  static let cont = "cont"
  static let stop = "stop"
  static let quit = "quit"
  static let status = "query-status"
  static let migrate = "migrate"
  static let migrateContinue = "migrate-continue"
  static let migrateCancel = "migrate_cancel"
  static let serverStart = "nbd-server-start"
  static let exportAdd = "block-export-add"
  static let driveMirror = "drive-mirror"
  static let pivots = ["block-job-complete", "job-complete"]

  /// What a host program sends to resume a target by itself.
  static let resumption =
    "{\"execute\":\"qmp_capabilities\",\"id\":0}{\"execute\":\"cont\",\"id\":1}\n"
  /// What a stranger sends: one question.
  static let question = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}\n"
}
