import ArgumentParser
import Glibc

/// `switchover recover`
struct RecoverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover",
    abstract: "Bring a guest to one owner after its migration was abandoned.",
    discussion: discussion)

  @Argument(help: ArgumentHelp("The journal of the migration.", valueName: "journal"))
  var journal: String?

  @Option(
    help: ArgumentHelp(
      "The source's QMP monitor, instead of the journal's; '' leaves it unasked.",
      valueName: "address"))
  var source: String?

  @Option(
    help: ArgumentHelp("The target's QMP monitor, likewise.", valueName: "address"))
  var target: String?

  @Option(
    name: .customLong("source-oob"),
    help: ArgumentHelp(
      "A second monitor of the source, for out-of-band commands only.", valueName: "address"))
  var sourceOutOfBand: String?

  @Flag(help: "Look and decide, and change nothing.")
  var dryRun = false

  @Option(
    help: ArgumentHelp(
      "Your word that this side cannot run now, nor later by itself; may be repeated.",
      valueName: "source|target"))
  var fenced: [Side] = []

  @Option(
    help: ArgumentHelp(
      "Your word on where the cluster has the guest; none: there is no cluster.",
      valueName: "source|target|none"))
  var ownership: OwnershipWord?

  @Option(
    help: ArgumentHelp(
      "Your word on whether the guest ran before, and so is to run.", valueName: "yes|no"))
  var guestRan: YesOrNo?

  @Flag(help: "Your word that the guest never ran on the target.")
  var targetNeverRan = false

  @OptionGroup var fencing: FenceArguments

  @Option(
    help: ArgumentHelp(
      "How long QEMU may take to decide by itself: 500ms, 10s, 2m; at most 1h.",
      valueName: "time"))
  var settle = TimeSpan(milliseconds: 60_000)

  @Flag(help: "Print the table that decides, and do nothing else.")
  var table = false

  @Flag(help: "List the journals of a folder, and do nothing else.")
  var all = false

  @Option(help: ArgumentHelp("The folder of --all.", valueName: "folder"))
  var directory: String = JournalPlace.folder

  @OptionGroup var ssh: SSHArguments
  @OptionGroup var report: ReportArguments

  func validate() throws {
    if table || all {
      guard journal == nil, source == nil, target == nil, !(table && all) else {
        throw ValidationError("--table and --all stand alone.")
      }
      return
    }
    guard journal != nil || source != nil || target != nil else {
      throw ValidationError("Name a journal, or a monitor with --source or --target.")
    }
    guard settle.milliseconds <= 3_600_000 else {
      throw ValidationError("--settle is at most 1h.")
    }
  }

  func run() throws {
    if table { return printTable() }
    if all { return try listJournals() }
    try RecoveryRun(
      plan: plan, fence: fencing.command, report: report, signals: try SignalPipe()
    ).run()
  }

  /// Everything that is asked for.
  var plan: RecoveryPlan {
    RecoveryPlan(
      journal: journal.map(JournalPlace.absolute), source: source, target: target,
      outOfBandMonitor: sourceOutOfBand, fenced: fenced, ownership: ownership,
      guestRan: guestRan.map { $0 == .yes }, targetNeverRan: targetNeverRan, isDryRun: dryRun,
      settleMilliseconds: settle.milliseconds, ssh: ssh.plan)
  }

  // MARK: - Lists

  private func printTable() {
    let rows = Recovery.table
    let lines =
      report.json
      ? rows.map { RecoveryTableText.object($0).line } : RecoveryTableText.lines(rows)
    writeAll(lines.map { $0 + "\n" }.joined(), to: STDOUT_FILENO)
  }

  private func listJournals() throws {
    for path in try JournalFolder.journals(in: JournalPlace.absolute(directory)) {
      let journal = JournalSummary(path: path)
      if report.json {
        writeAll(RecoveryText.object(journal).line + "\n", to: STDOUT_FILENO)
        continue
      }
      if case .settled = journal.state, !report.verbose { continue }
      writeAll(RecoveryText.line(journal) + "\n", to: STDOUT_FILENO)
      if case .open = journal.state {
        writeAll(
          "             next: switchover recover \(shellWord(journal.path))\n", to: STDOUT_FILENO)
      }
    }
  }
}

/// A plain answer.
enum YesOrNo: String, ExpressibleByArgument {
  case yes
  case no
}

extension Side: ExpressibleByArgument {}
extension OwnershipWord: ExpressibleByArgument {}

extension RecoverCommand {
  private static let discussion = """
    When the program that moved a guest dies, or ends without knowing who owns the guest, this brings \
    the pair to one owner. It looks at both QEMUs, at their processes where it can, at the journal and \
    at your word, decides from one table (--table), acts where that is proven safe, and otherwise says \
    what has to be established, and the command for then. It never stops a guest that runs, never \
    resumes a guest that may have run elsewhere, and can be run again at any time.

    It works with the journal, with both addresses alone, and with one of them. A journal that a live \
    migration works with is refused. What the dead program had changed is put back.

    \(HelpText.addresses)

    YOUR WORD
    Say only what you have established. A side that answers its monitor is judged by what it says; the \
    process of a side is judged by the kernel, if the journal has it; your word is for the rest.

    \(HelpText.fencing)

    EXAMPLES
      switchover recover --all
      switchover recover /var/lib/switchover/vm_100.journal --dry-run
      switchover recover /var/lib/switchover/vm_100.journal
      switchover recover /var/lib/switchover/vm_100.journal --ownership target
      switchover recover --source /run/a.qmp --target /run/b.qmp \\
          --ownership none --guest-ran yes

    EXIT STATUS
       0  the guest has one owner (with --dry-run: it would have)
       1  wrong usage, a journal that is held or damaged, or a local error
      10  the source owns the guest, and something is left to do first
      11  the target owns it, likewise
      12  nobody owns it: both sides stand; the next step is printed
      13  the owner is unknown: resume nothing before that is settled
    """
}
