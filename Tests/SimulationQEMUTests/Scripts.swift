/// Everything that the simulated QEMU is held to.
enum Scripts {
  static let all =
    wire + incoming + success + cancels + deaths + failures + guestActs + storage + storageFailures

  private typealias Step = Script.Step

  static let wire: [Script] = [
    Script(
      name: "commands and their refusals",
      steps: [
        .source("query-status", #"{"x": 1}"#), .source("no-such-command"), .source("migrate"),
        .source("migrate", #"{"uri": 7}"#), .source("migrate", #"{"uri": "unix:/x", "y": 1}"#),
        .source("migrate", #"{"uri": "bogus:x"}"#), .source("query-migrate"),
        .source("migrate-continue", #"{"state": "pre-switchover"}"#),
        .source("migrate-continue", #"{"state": "nonsense"}"#), .source("migrate_cancel"),
        .source("migrate-incoming", #"{"uri": "unix:/x"}"#),
        .source("qom-get", #"{"path": "/machine", "property": "type"}"#),
        .source("qom-get", #"{"path": "/nowhere", "property": "type"}"#),
        .source("query-memory-size-summary"), .source("announce-self"),
        .source(
          "announce-self", #"{"initial": 50, "max": 550, "rounds": 5, "step": 100}"#),
        .source("qmp_capabilities"), .source("closefd", #"{"fdname": "x"}"#),
        .source("getfd", #"{"fdname": "x"}"#), .source("query-version"),
        .source("query-yank"), .source("yank", #"{"instances": [{"type": "migration"}]}"#),
      ]),
    Script(
      name: "capabilities and parameters",
      steps: [
        .source("query-migrate-capabilities"), .source("query-migrate-parameters"),
        .source("migrate-set-capabilities"),
        .source("migrate-set-capabilities", #"{"capabilities": []}"#),
        .source(
          "migrate-set-capabilities",
          #"{"capabilities": [{"capability": "nonsense", "state": true}]}"#),
        .source("migrate-set-capabilities", #"{"capabilities": [{"capability": "events"}]}"#),
        .source(
          "migrate-set-capabilities", #"{"capabilities": [{"capability": "events", "state": 1}]}"#),
        .capabilities(.source, "events", "xbzrle"), .source("query-migrate-capabilities"),
        .source("migrate-set-parameters", #"{"nonsense": 1}"#),
        .source("migrate-set-parameters", #"{"downtime-limit": 2000001}"#),
        .source("migrate-set-parameters", #"{"downtime-limit": 2000000}"#),
        .source("migrate-set-parameters", #"{"max-bandwidth": "x"}"#),
        .source("migrate-set-parameters", #"{"max-bandwidth": 9223372036854775807}"#),
        .source("query-migrate-parameters"), .capabilities(.target, "multifd"),
      ]),
    Script(
      name: "stop and cont",
      steps: [
        .status(.source), .source("stop"), .status(.source), .source("stop"), .source("cont"),
        .status(.source), .source("cont"), .source("system_reset"), .status(.source),
        .source("quit"), .awaitEnd(.source),
      ]),
    Script(
      name: "many commands in one write",
      steps: [
        .typeTogether(
          .source,
          (0..<12).map { _ in #""execute": "query-status""# } + [
            #""execute": "stop""#, #""execute": "cont""#,
          ])
      ]),
  ]

  static let incoming: [Script] = [
    Script(
      name: "a target that waits",
      steps: [
        .status(.target), .migrationStatus(.target), .target("stop"), .status(.target),
        .target("cont"), .status(.target), .target("stop"), .status(.target),
        .target("migrate", #"{"uri": "unix:/x"}"#),
        .target("migrate-incoming", #"{"uri": "unix:/x"}"#), .target("migrate_cancel"),
        .status(.target), .target("quit"), .awaitEnd(.target),
      ]),
    Script(
      name: "a deferred target",
      setup: Script.Setup(targetIsDeferred: true),
      steps: [.capabilities(.target, "events")] + [
        .migrationStatus(.target), .target("cont"), .target("stop"),
        .target("migrate-incoming", #"{"uri": "MIGRATION"}"#), .migrationStatus(.target),
        .target("migrate-incoming", #"{"uri": "MIGRATION"}"#), .status(.target),
      ]),
    Script(
      name: "a target with disks is armed",
      setup: Script.Setup(disks: 1),
      steps: [.target("cont"), .status(.target), .target("stop"), .status(.target)]),
  ]

  static let success: [Script] = [
    Script(
      name: "plain",
      steps: Step.events + [
        .target("stop"), .migrate, .migration(.source, "completed"),
        .awaitRunState(.source, "postmigrate"), .migration(.target, "completed"),
        .migrationStatus(.source), .migrationStatus(.target), .status(.target), .target("cont"),
        .status(.target), .source("stop"), .status(.source), .source("migrate_cancel"),
        .source("migrate-continue", #"{"state": "pre-switchover"}"#), .source("quit"),
        .awaitEnd(.source),
      ]),
    Script(
      name: "armed before it",
      steps: Step.events + [
        .target("cont"), .migrate, .migration(.source, "completed"),
        .await(.target, event: "RESUME"), .migration(.target, "completed"), .status(.target),
        .awaitRunState(.source, "postmigrate"),
      ]),
    Script(
      name: "armed, with return-path",
      steps: Step.events + [
        .capabilities(.source, "return-path"), .capabilities(.target, "return-path"),
        .target("cont"), .migrate, .migration(.source, "completed"),
        .migration(.target, "completed"), .status(.target), .awaitRunState(.source, "postmigrate"),
      ]),
    Script(
      name: "started without -S and disarmed",
      setup: Script.Setup(targetIsPaused: false),
      steps: Step.events + [
        .target("stop"), .migrate, .migration(.source, "completed"),
        .migration(.target, "completed"), .status(.target),
      ]),
    Script(
      name: "started without -S",
      setup: Script.Setup(targetIsPaused: false),
      steps: Step.events + [
        .migrate, .migration(.target, "completed"), .status(.target),
        .migration(.source, "completed"), .awaitRunState(.source, "postmigrate"),
      ]),
    Script(
      name: "the owner's pause travels",
      steps: Step.events + [
        .source("stop"), .target("cont"), .migrate, .migration(.source, "completed"),
        .migration(.target, "completed"), .status(.target),
        .awaitRunState(.source, "postmigrate"), .target("cont"), .status(.target),
      ]),
    Script(
      name: "pause-before-switchover",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .status(.source), .migrationStatus(.source),
        .source("cont"), .source("stop"), .status(.source),
        .source("migrate-continue", #"{"state": "device"}"#), .status(.target), .proceed,
        .migration(.source, "completed"), .awaitRunState(.source, "postmigrate"),
        .migration(.target, "completed"), .status(.target),
      ]),
    Script(
      name: "without the capability 'events'",
      steps: [
        .migrate, .await(.source, event: "STOP"), .awaitRunState(.source, "postmigrate"),
        .awaitRunState(.target, "paused"), .target("cont"), .status(.target),
      ]),
    Script(
      name: "back on the source after the target has ended",
      steps: Step.events + [
        .migrate, .migration(.target, "completed"), .awaitRunState(.source, "postmigrate"),
        .target("quit"), .awaitEnd(.target), .source("cont"), .status(.source),
      ]),
  ]

  static let cancels: [Script] = [
    Script(
      name: "cancel while the RAM travels",
      steps: Step.events + [
        .slowly, .migrate, .migration(.source, "active"), .migration(.target, "active"),
        .migrationStatus(.source), .migrationStatus(.target), .status(.target),
        .capabilities(.source, "xbzrle"), .migrate, .proceed,
        .source("migrate-set-parameters", #"{"max-bandwidth": 30000}"#),
        .source("stop"), .status(.source), .source("cont"), .source("migrate_cancel"),
        .migration(.source, "cancelled"), .awaitEnd(.target), .status(.source),
        .migrationStatus(.source), .source("migrate_cancel"), .migrationStatus(.source),
      ]),
    Script(
      name: "cancel with the guest paused",
      steps: Step.events + [
        .slowly, .source("stop"), .migrate, .migration(.source, "active"),
        .source("migrate_cancel"), .migration(.source, "cancelled"), .awaitEnd(.target),
        .status(.source),
      ]),
    Script(
      name: "cancel in pre-switchover",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .source("migrate_cancel"),
        .migration(.source, "cancelled"), .awaitEnd(.target), .status(.source),
        .migrationStatus(.source),
      ]),
    Script(
      name: "cancel in pre-switchover with the guest paused",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .source("stop"), .migrate,
        .migration(.source, "pre-switchover"), .source("migrate_cancel"),
        .migration(.source, "cancelled"), .awaitEnd(.target), .status(.source),
      ]),
    Script(
      name: "'stop' in pre-switchover does not keep it from resuming",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .source("stop"), .status(.source),
        .source("migrate_cancel"), .migration(.source, "cancelled"), .awaitEnd(.target),
        .status(.source),
      ]),
  ]

  static let deaths: [Script] = [
    Script(
      name: "the target is killed while the RAM travels",
      steps: Step.events + [
        .slowly, .migrate, .migration(.source, "active"), .migration(.target, "active"),
        .kill(.target), .migration(.source, "failed"), .status(.source), .migrationStatus(.source),
      ]),
    Script(
      name: "the target quits while the RAM travels, with return-path",
      steps: Step.events + [
        .capabilities(.source, "return-path"), .slowly, .migrate, .migration(.source, "active"),
        .migration(.target, "active"), .target("quit"), .awaitEnd(.target),
        .migration(.source, "failed"), .status(.source),
      ]),
    Script(
      name: "the target is killed in pre-switchover, then migrate-continue",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .kill(.target), .awaitEnd(.target),
        .status(.source), .migrationStatus(.source), .proceed, .migration(.source, "failed"),
        .await(.source, event: "RESUME"), .status(.source),
      ]),
    Script(
      name: "the target is killed in pre-switchover, then cancel",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .kill(.target), .awaitEnd(.target),
        .source("migrate_cancel"), .migration(.source, "cancelled"), .status(.source),
      ]),
    Script(
      name: "the source is killed while the RAM travels",
      steps: Step.events + [
        .slowly, .migrate, .migration(.source, "active"), .migration(.target, "active"),
        .kill(.source), .awaitEnd(.target),
      ]),
    Script(
      name: "the source quits while the RAM travels",
      steps: Step.events + [
        .slowly, .migrate, .migration(.source, "active"), .migration(.target, "active"),
        .source("quit"), .awaitEnd(.source), .awaitEnd(.target),
      ]),
    Script(
      name: "the source is killed in pre-switchover",
      steps: Step.events + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .migration(.target, "active"), .kill(.source),
        .awaitEnd(.target),
      ]),
  ]

  static let failures: [Script] = [
    Script(
      name: "nobody listens",
      steps: Step.events + [
        .source("migrate", #"{"uri": "unix:/nowhere/at/all"}"#), .migration(.source, "failed"),
        .status(.source), .migrationStatus(.source), .status(.target), .migrate,
        .migration(.target, "completed"), .status(.target), .migration(.source, "completed"),
      ]),
    Script(
      name: "the target lacks a device",
      setup: Script.Setup(sourceHasRandomNumberDevice: true),
      steps: Step.events + [
        // A source that has written everything is done; one that still writes sees the failure.
        .migrate, .awaitEnd(.target), .awaitRunState(.source, "postmigrate", or: "running"),
        .source("cont"), .status(.source),
      ]),
    Script(
      name: "the target lacks a device, with return-path",
      setup: Script.Setup(sourceHasRandomNumberDevice: true),
      steps: Step.events + [
        .capabilities(.source, "return-path"), .capabilities(.target, "return-path"), .migrate,
        .migration(.source, "failed"), .await(.source, event: "RESUME"), .awaitEnd(.target),
        .status(.source),
      ]),
    Script(
      name: "the target lacks a device, with return-path and pre-switchover",
      setup: Script.Setup(sourceHasRandomNumberDevice: true),
      steps: Step.events + [
        .capabilities(.source, "return-path", "pause-before-switchover"),
        .capabilities(.target, "return-path"), .migrate, .migration(.source, "pre-switchover"),
        .proceed, .migration(.source, "failed"), .await(.source, event: "RESUME"),
        .awaitEnd(.target), .status(.source),
      ]),
    Script(
      name: "memory of another size",
      setup: Script.Setup(targetMemoryMebibytes: 128),
      steps: Step.events + [
        .migrate, .migration(.source, "failed"), .awaitEnd(.target), .status(.source),
      ]),
  ]

  static let guestActs: [Script] = [
    Script(
      name: "the guest powers off",
      steps: [.guest(.source, .powerOff), .awaitEnd(.source)]),
    Script(
      name: "the guest powers off, and its QEMU stays",
      setup: Script.Setup(survivesShutdown: true),
      steps: [
        .guest(.source, .powerOff), .await(.source, event: "STOP"), .status(.source),
        .source("cont"),
      ]),
    Script(
      name: "the guest powers off while the RAM travels",
      steps: Step.events + [
        .slowly, .migrate, .migration(.source, "active"), .migration(.target, "active"),
        .guest(.source, .powerOff), .awaitEnd(.source), .awaitEnd(.target),
      ]),
    Script(
      name: "a guest that is off travels, and its QEMU stays",
      setup: Script.Setup(survivesShutdown: true),
      steps: Step.events + [
        .guest(.source, .powerOff), .await(.source, event: "STOP"), .target("cont"), .migrate,
        .migration(.target, "completed"), .status(.target), .migration(.source, "completed"),
      ]),
    Script(
      name: "the guest reboots",
      steps: [.guest(.source, .reboot), .await(.source, event: "RESET"), .status(.source)]),
    Script(
      name: "the guest panics",
      steps: [.guest(.source, .panic), .awaitEnd(.source)]),
    Script(
      name: "the guest panics and is kept",
      setup: Script.Setup(pausesOnPanic: true),
      steps: [
        .guest(.source, .panic), .await(.source, event: "STOP"), .status(.source),
        .source("cont"), .status(.source),
      ]),
    Script(
      name: "an I/O error stops the guest, and travels",
      setup: Script.Setup(disks: 1, hasFaultyDisk: true),
      steps: Step.events + [
        .guest(.source, .writeFaultySector), .await(.source, event: "STOP"), .status(.source),
        .target("cont"), .target("stop"), .migrate, .migration(.target, "completed"),
        .status(.target), .migration(.source, "completed"),
      ]),
  ]

  static let storage: [Script] = [
    Script(
      name: "nodes, exports and jobs",
      setup: Script.Setup(disks: 1),
      steps: [
        .source("query-block-jobs"), .source("query-jobs"), .target("query-block-exports"),
        .target("nbd-server-stop"), .source("block-job-cancel", #"{"device": "x"}"#),
        .source("job-dismiss", #"{"id": "x"}"#), .source("job-cancel", #"{"id": "x"}"#),
        .source("blockdev-del", #"{"node-name": "x"}"#),
        .target(
          "block-export-add",
          #"{"type": "nbd", "id": "e0", "node-name": "x", "writable": true}"#),
        .source(
          "block-job-change", #"{"id": "x", "type": "mirror", "copy-mode": "write-blocking"}"#),
        .source(
          "blockdev-add",
          #"{"driver": "nbd", "node-name": "m0", "server": {"type": "unix", "path": "/nowhere/at/all"}, "export": "disk0"}"#
        ),
      ] + Step.mirror(#", "auto-dismiss": false"#) + [
        .source("query-block-jobs"), .source("query-jobs"), .target("query-block-exports"),
        .source("query-yank"),
        .target(
          "nbd-server-start", #"{"addr": {"type": "unix", "data": {"path": "/x"}}}"#),
        .target(
          "block-export-add",
          #"{"type": "nbd", "id": "e0", "node-name": "disk0", "writable": true, "name": "disk0"}"#),
        .target(
          "block-export-add",
          #"{"type": "nbd", "id": "e1", "node-name": "disk0", "writable": true, "name": "disk0"}"#),
        .source(
          "blockdev-add",
          #"{"driver": "nbd", "node-name": "m1", "server": {"type": "unix", "path": "STORAGE"}, "export": "nope"}"#
        ),
        .source(
          "blockdev-mirror",
          #"{"job-id": "mir9", "device": "nope", "target": "m0", "sync": "full"}"#),
        .source("blockdev-del", #"{"node-name": "m0"}"#),
        .source("job-dismiss", #"{"id": "mir0"}"#),
        .source(
          "block-job-change", #"{"id": "mir0", "type": "mirror", "copy-mode": "write-blocking"}"#),
        .source("block-job-cancel", #"{"device": "mir0"}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "concluded"),
        .source("query-block-jobs"), .source("block-job-cancel", #"{"device": "mir0"}"#),
        .source("job-dismiss", #"{"id": "mir0"}"#), .source("query-block-jobs"),
        .source("blockdev-del", #"{"node-name": "m0"}"#),
        .target("block-export-del", #"{"id": "e0"}"#), .target("nbd-server-stop"),
      ]),
    Script(
      name: "a mirror is ended by force",
      setup: Script.Setup(disks: 1),
      steps: Step.mirror() + [
        .source("block-job-cancel", #"{"device": "mir0", "force": true}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "null"), .source("query-block-jobs"),
        .source("blockdev-del", #"{"node-name": "m0"}"#),
      ]),
    Script(
      name: "the fast order: NBD stop and cont in one write, jobs afterwards",
      setup: Script.Setup(disks: 1),
      steps: Step.events + Step.mirror(#", "auto-dismiss": false"#) + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .source("query-block-jobs"), .proceed,
        .migration(.source, "completed"), .migration(.target, "completed"),
        .typeTogether(.target, [#""execute": "nbd-server-stop""#, #""execute": "cont""#]),
        .status(.target), .target("query-block-exports"),
        .awaitRunState(.source, "postmigrate"), .source("query-block-jobs"),
        .source("block-job-cancel", #"{"device": "mir0", "force": true}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "concluded"),
        .source("query-block-jobs"), .source("job-dismiss", #"{"id": "mir0"}"#),
        .source("blockdev-del", #"{"node-name": "m0"}"#), .source("quit"), .awaitEnd(.source),
      ]),
    Script(
      name: "the order of mirrors ended in pre-switchover",
      setup: Script.Setup(disks: 1),
      steps: Step.events + Step.mirror(#", "auto-dismiss": false"#) + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"),
        .source("block-job-cancel", #"{"device": "mir0"}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "concluded"),
        .source("query-block-jobs"), .source("job-dismiss", #"{"id": "mir0"}"#),
        .source("blockdev-del", #"{"node-name": "m0"}"#), .proceed,
        .migration(.source, "completed"), .migration(.target, "completed"),
        .target("nbd-server-stop"), .target("cont"), .status(.target),
      ]),
    Script(
      name: "quit with an open mirror",
      setup: Script.Setup(disks: 1),
      steps: Step.mirror() + [.source("quit"), .awaitEnd(.source), .status(.target)]),
  ]

  static let storageFailures: [Script] = [
    Script(
      name: "the NBD server stops under an idle mirror",
      setup: Script.Setup(disks: 1),
      steps: Step.mirror(#", "auto-dismiss": false"#) + [
        .target("nbd-server-stop"), .source("query-block-jobs"),
        .source("block-job-cancel", #"{"device": "mir0"}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "concluded"),
        .source("query-block-jobs"), .source("job-dismiss", #"{"id": "mir0"}"#),
        .source("blockdev-del", #"{"node-name": "m0"}"#),
      ]),
    Script(
      name: "a node that cannot be flushed at STOP fails the migration",
      setup: Script.Setup(disks: 1),
      steps: Step.events + Step.mirror(#", "auto-dismiss": false"#) + [
        .target("nbd-server-stop"), .migrate, .migration(.source, "failed"),
        .await(.source, event: "RESUME"), .awaitEnd(.target), .status(.source),
      ]),
    Script(
      name: "the target of a mirror is killed in pre-switchover",
      setup: Script.Setup(disks: 1),
      steps: Step.events + Step.mirror() + [
        .capabilities(.source, "pause-before-switchover"), .migrate,
        .migration(.source, "pre-switchover"), .kill(.target), .awaitEnd(.target),
        .status(.source), .source("migrate_cancel"), .migration(.source, "cancelled"),
        .status(.source), .source("block-job-cancel", #"{"device": "mir0", "force": true}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "null"),
        .source("blockdev-del", #"{"node-name": "m0"}"#),
      ]),
    Script(
      name: "a yanked node",
      setup: Script.Setup(disks: 1),
      steps: Step.mirror(#", "auto-dismiss": false"#) + [
        .source("yank", #"{"instances": [{"type": "block-node", "node-name": "nope"}]}"#),
        .source("yank", #"{"instances": [{"type": "block-node", "node-name": "m0"}]}"#),
        .source("query-block-jobs"), .status(.source),
        .source("block-job-cancel", #"{"device": "mir0", "force": true}"#),
        .await(.source, event: "JOB_STATUS_CHANGE", status: "concluded"),
      ]),
  ]
}
