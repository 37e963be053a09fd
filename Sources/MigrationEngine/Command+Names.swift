extension Command {
  /// QMP's name of the command, for texts.
  public var qmpName: String {
    switch self {
    case .queryStatus: "query-status"
    case .queryMigrate: "query-migrate"
    case .queryCapabilities: "query-migrate-capabilities"
    case .queryParameters: "query-migrate-parameters"
    case .queryMachineType: "qom-get"
    case .queryMemorySize: "query-memory-size-summary"
    case .stop: "stop"
    case .cont: "cont"
    case .quit: "quit"
    case .setCapabilities: "migrate-set-capabilities"
    case .setParameters: "migrate-set-parameters"
    case .migrate: "migrate"
    case .migrateIncoming: "migrate-incoming"
    case .migrateCancel: "migrate_cancel"
    case .migrateContinue: "migrate-continue"
    case .announceSelf: "announce-self"
    case .queryCommands: "query-commands"
    case .queryBlockNodes: "query-named-block-nodes"
    case .queryBlockDevices: "query-block"
    case .queryBlockExports: "query-block-exports"
    case .queryBlockJobs: "query-block-jobs"
    case .nbdServerStart: "nbd-server-start"
    case .nbdServerStop: "nbd-server-stop"
    case .blockExportAdd: "block-export-add"
    case .blockdevAdd: "blockdev-add"
    case .blockdevDel: "blockdev-del"
    case .blockdevMirror: "blockdev-mirror"
    case .driveMirror: "drive-mirror"
    case .blockJobChange: "block-job-change"
    case .blockJobCancel: "block-job-cancel"
    case .jobDismiss: "job-dismiss"
    case .yank: "yank"
    }
  }
}
