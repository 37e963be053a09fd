import ArgumentParser

/// `switchover migrate`
struct MigrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate",
    abstract: "Move a running guest from one QEMU to another.",
    discussion: discussion)

  @OptionGroup var arguments: MigrationArguments

  @Option(
    help: ArgumentHelp(
      "When ownership moves in the cluster: none, before-resume, after-resume or external. "
        + "(default: before-resume with a command, else none)",
      valueName: "mode"))
  var handOver: HandOverMode?

  @Option(
    help: ArgumentHelp(
      "The shell command that moves ownership: exit 0 done, 1 not done, else unknown.",
      valueName: "command"))
  var handOverCommand: String?

  @Option(
    help: ArgumentHelp(
      "What becomes of the source's QEMU once the target runs: quit or keep. (default: quit)",
      valueName: "what"))
  var sourceEnd: SourceEnd?

  @Option(
    help: ArgumentHelp(
      "At most so many bytes a second, with K, M, G or T; 0 is no limit. (default: 0)",
      valueName: "rate"))
  var bandwidth: ByteRate?

  @Option(
    help: ArgumentHelp(
      "QEMU's downtime-limit at the start, milliseconds. (default: as QEMU has it)",
      valueName: "ms"))
  var downtimeLimit: UInt32?

  @Option(
    help: ArgumentHelp(
      "How far the limit may be raised when the memory does not converge, milliseconds; 0 is never. "
        + "(default: 2000000)",
      valueName: "ms"))
  var highestDowntimeLimit: UInt32?

  @Option(
    help: ArgumentHelp(
      "Cancel if the guest's memory has not arrived after this time: 90s, 15m, 2h.",
      valueName: "time"))
  var deadline: TimeSpan?

  @Option(
    help: ArgumentHelp(
      "Where recovery finds what was intended, if this program dies; none: nowhere. "
        + "(default: \(JournalPlace.folder)/NAME.journal for root)",
      valueName: "file|none"))
  var journal: JournalChoice?

  @OptionGroup var fencing: FenceArguments

  @Option(
    name: .customLong("ledger-svg"),
    help: ArgumentHelp("Draw the ledger of the blackout into this file.", valueName: "file"))
  var ledgerSVG: String?

  @OptionGroup var report: ReportArguments

  func validate() throws {
    switch (mode, handOverCommand) {
    case (.beforeResume, nil), (.afterResume, nil):
      throw ValidationError("--hand-over \(mode.rawValue) needs --hand-over-command.")
    case (.none, _?):
      throw ValidationError("--hand-over none has no use for --hand-over-command.")
    case (.external, _?):
      throw ValidationError(
        "--hand-over external runs no command: whoever watches this program resumes the target.")
    default:
      break
    }
    if mode == .external, sourceEnd == .quit {
      throw ValidationError(
        "--hand-over external keeps the source: whoever resumes the target ends it.")
    }
    let limits = 1...MigrationPlan.Tuning.highestDowntimeLimit
    if let downtimeLimit, !limits.contains(downtimeLimit) {
      throw ValidationError("--downtime-limit is 1 to \(limits.upperBound) milliseconds.")
    }
    if let highestDowntimeLimit {
      guard let downtimeLimit else {
        throw ValidationError("--highest-downtime-limit needs --downtime-limit.")
      }
      guard
        highestDowntimeLimit == 0
          || (downtimeLimit...limits.upperBound)
            .contains(highestDowntimeLimit)
      else {
        throw ValidationError(
          "--highest-downtime-limit is 0, or from --downtime-limit to \(limits.upperBound).")
      }
    }
  }

  /// The hand-over mode with its default.
  private var mode: HandOverMode {
    handOver ?? (handOverCommand == nil ? .none : .beforeResume)
  }

  /// Everything that is asked for.
  var plan: MigrationPlan {
    var plan = arguments.plan
    plan.handOver = mode
    plan.handOverCommand = handOverCommand
    plan.sourceEnd = mode == .external ? .keep : sourceEnd ?? .quit
    plan.tuning.bytesPerSecond = bandwidth?.bytesPerSecond
    plan.tuning.downtimeLimitMilliseconds = downtimeLimit
    if let highestDowntimeLimit {
      plan.tuning.highestDowntimeLimitMilliseconds = highestDowntimeLimit
    }
    plan.tuning.transferDeadlineMilliseconds = deadline?.milliseconds
    return plan
  }

  func run() throws {
    let drawing = try ledgerSVG.map(OutputFile.init)
    var plan = plan
    let place = JournalPlace(journal, for: plan)
    plan.journal = place.path
    let signals = try SignalPipe()
    let driver = try MigrationDriver(
      plan, signals: signals, outputs: Outputs(), narrator: report.narrator)
    if let warning = place.warning { driver.warn(warning) }
    let snapshot = try driver.run(.migrate)
    if let drawing, !snapshot.ledger.isEmpty {
      let title = "Live migration of \(plan.name ?? "a guest"): where the blackout went"
      if let problem = drawing.replace(with: LedgerDrawing.text(snapshot, title: title)) {
        writeAll("switchover: \(problem)\n", to: 2)
      }
    }
    if snapshot.isIn(.SWO_PHASE_ENDED), snapshot.hasNoOwner, let fence = fencing.command {
      let recovery = RecoveryPlan(
        journal: plan.journal, source: plan.source, target: plan.target,
        outOfBandMonitor: plan.outOfBandMonitor)
      return try RecoveryRun(plan: recovery, fence: fence, report: report, signals: signals).run()
    }
    guard snapshot.isCompleted else { throw CommandFailure(snapshot.exitStatus) }
  }
}

extension MigrateCommand {
  private static let discussion = """
    The guest's memory travels while it runs on the source. Then it stops there, the rest travels, \
    and the moment the source can never run it again the target gets the word to resume. On a \
    terminal a line shows the rate, what is left, the pass and the blackout to be expected; at the \
    end a ledger tells where every microsecond of the blackout went.

    Start the target like the source, with '-incoming defer' (or the uri) and '-S'. Storage is \
    shared, or each local disk is named with --disk.

    \(HelpText.addresses)

    \(HelpText.ssh)

    \(HelpText.disks)

    OWNERSHIP
    A cluster that keeps its own record of where a guest runs moves that record in the hand-over:
      before-resume  the target has proven that it loaded; ownership moves, and
                     then the guest resumes
      after-resume   the guest resumes, then ownership moves, tried until done;
                     only with a cluster lock that outlives the source's host
      none           there is no cluster
      external       it ends loaded and paused on the target; whoever watches
                     this program resumes it there
    The command runs in a shell with SWO_NAME, SWO_SOURCE, SWO_TARGET, SWO_URI and SWO_HAND_OVER \
    in its environment. Exit status 0 says that ownership moved, 1 that it certainly did not (the \
    guest then goes back to the source), anything else that it may have (nothing is resumed).

    JOURNAL
    Before anything is changed the intent is written to the journal, and the outcome after the end. \
    If this program or its host dies in between, 'switchover recover FILE' settles who owns the \
    guest. One migration at a time uses a journal.

    \(HelpText.fencing)
    Where a migration ends with nobody owning the guest, or without knowing who does, and there is \
    such a command, recovery follows at once; its result then is this program's.

    INTERRUPTION
    Ctrl-C (or SIGTERM, or the terminal's end) cancels, and the guest stays on the source. Past the \
    point of no return it is too late: the program says so and goes on to the end. Ctrl-Z is \
    ignored, for the guest would stand still with the program.

    OUTPUT FOR PROGRAMS
    With --json each line of standard output is an object with "event" and "elapsed_ms". The events: \
    "phase", "progress", "warning", "log", "hand-over-wanted", "hand-over-started", \
    "hand-over-ended", "cancel", and last "finished" with "end", "owner", "guest", "exit_status", \
    "summary", "next_step", "failure" (or null), "journal" (or null), the figures that are known and \
    the "ledger". A "progress" has "disks" where there are any. Figures end in their unit: _bytes, \
    _ms, _us. New members and events may appear.

    EXAMPLES
      switchover migrate --source /run/vm.qmp --target tcp:10.0.0.2:4440 \\
          --uri tcp:10.0.0.2:4444 --bandwidth 500M --deadline 10m
      switchover migrate --source /run/vm.qmp --target /run/new.qmp \\
          --uri unix:/run/vm.migrate --name 'vm 100' \\
          --hand-over-command 'mv /cluster/a/100.conf /cluster/b/100.conf'
      switchover migrate --source /run/vm.qmp --target tcp:10.0.0.2:4440 \\
          --uri tcp:10.0.0.2:4444 --disk drive0 --disk drive1,bandwidth=100M \\
          --nbd tcp:10.0.0.2:4445 --source-oob /run/vm-oob.qmp
      switchover migrate --source /run/vm.qmp --target ssh://root@node2/run/vm.qmp \\
          --uri unix:/run/vm.migrate --disk drive0 --nbd unix:/run/vm.nbd
      switchover migrate --source /run/vm.qmp --target /run/new.qmp \\
          --uri unix:/run/vm.migrate --capability xbzrle=on --json

    \(HelpText.exitStatus)
    """
}
