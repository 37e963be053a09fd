/// How recovery decides, as data: the first row that matches a situation counts, and every situation
/// has one.
///
/// The rows are grouped by what the source does. Only `completed` and `dead` prove that the source
/// cannot run by itself, so only there the target is resumed; and the source is resumed only after
/// `completed`, where the target is proven unable to run and never to have run (I1).
public enum RecoveryTable {
  public static let rules: [RecoveryRule] =
    guestOnSource + transferOnItsWay + sourceCompletedTargetRuns + sourceCompletedTargetLoaded
    + sourceCompletedTargetLost + sourceDeadTargetRuns + sourceDeadTargetLoaded
    + sourceDeadTargetLost
    + sourceUnreachable

  /// The row for a situation; nil is a contradiction that the tests exclude.
  public static func rule(for situation: RecoverySituation) -> RecoveryRule? {
    rules.first { $0.matches(situation) }
  }

  // MARK: - The source has the guest

  private static let guestOnSource: [RecoveryRule] = [
    RecoveryRule(
      "both-run", [.runs], [.runs], .ask, owner: .unknown, .running,
      "both guests run: whatever either writes from now on may destroy the other's data",
      toDo: "decide at once which of the two is to live, and end the other's QEMU", then: [.again]),
    RecoveryRule(
      "source-runs-target-gone", [.runs], [.dead, .off], .nothing, owner: .source, .running,
      "the guest runs on the source"),
    RecoveryRule(
      "source-runs", [.runs], [], .nothing, owner: .source, .running,
      "the guest runs on the source",
      toDo: "end the target's QEMU: it must never run this guest"),
    RecoveryRule(
      "source-stands-target-runs", [.stands], [.runs], .ask, owner: .unknown, .running,
      "the guest runs on the target, and the source holds it too, paused and not migrated",
      toDo: "decide which of the two is to live, and end the other's QEMU", then: [.again]),
    RecoveryRule(
      "source-stands-target-gone", [.stands], [.dead, .off], .nothing, owner: .source, .paused,
      "the guest stands on the source for a reason of its own",
      toDo: "'cont' on the source when it is to run"),
    RecoveryRule(
      "source-stands", [.stands], [], .nothing, owner: .source, .paused,
      "the guest stands on the source for a reason of its own",
      toDo: "end the target's QEMU, and 'cont' on the source when it is to run"),
    RecoveryRule(
      "source-off-target-runs", [.off], [.runs], .nothing, owner: .target, .running,
      "the guest runs on the target; on the source it has powered off",
      toDo: "end the source's QEMU"),
    RecoveryRule(
      "source-off-target-silent", [.off], [.unreachable], targetPast: [.mayHaveRun], .ask,
      owner: .unknown, .unknown,
      "the guest has powered off on the source, and the target cannot be asked",
      toDo: "reach the target's monitor, or prove that its QEMU cannot run", then: [.targetFenced]),
    RecoveryRule(
      "source-off", [.off], [], .nothing, owner: .source, .off,
      "the guest has powered off on the source",
      toDo: "end both QEMUs; start the guest afresh where its configuration is"),
  ]

  // MARK: - The migration is on its way

  private static let transferOnItsWay: [RecoveryRule] = [
    RecoveryRule(
      "undecided", [.switchingOver], [], .wait, owner: .unknown, .paused,
      "the guest stands on the source, whose QEMU has not decided yet: it ends in 'completed', or "
        + "runs the guest again",
      toDo: "find out what holds the source's QEMU up, such as a stalled NBD connection",
      then: [.again]),
    RecoveryRule(
      "transferring-target-runs", [.transferring, .preSwitchover], [.runs], .ask, owner: .unknown,
      .running,
      "a guest runs on the target while the source still migrates its own",
      toDo: "make sure that this is the source's target; if it is, decide which guest is to live, "
        + "and end the other's QEMU", then: [.again]),
    RecoveryRule(
      "pre-switchover", [.preSwitchover], [], .cancelMigration, owner: .source, .paused,
      "the source waits in pre-switchover for a 'migrate-continue' that nobody will send"),
    RecoveryRule(
      "transferring-target-silent", [.transferring], [.unreachable], targetPast: [.mayHaveRun],
      .ask,
      owner: .source, .running,
      "the migration is on its way, and nothing shows that its target is disarmed: a cancel at the "
        + "instant of the switchover could leave both running",
      toDo: "reach the target's monitor, prove that its QEMU cannot run, or let the migration end",
      then: [.targetFenced, .again]),
    RecoveryRule(
      "transferring", [.transferring], [], .cancelMigration, owner: .source, .running,
      "the migration is on its way, and nobody would activate its target"),
  ]

  // MARK: - The source has completed

  private static let sourceCompletedTargetRuns: [RecoveryRule] = [
    RecoveryRule(
      "completed-target-runs", [.completed], [.runs], cluster: [.none, .target], .quitSource,
      owner: .target, .running, "the guest runs on the target",
      toDo: "end the source's QEMU: it must not be resumed"),
    RecoveryRule(
      "completed-target-runs-unowned", [.completed], [.runs], .nothing, owner: .target, .running,
      "the guest runs on the target",
      toDo: "move ownership to the target, then end the source's QEMU: it must not be resumed"),
    RecoveryRule(
      "completed-target-off", [.completed], [.off], .nothing, owner: .target, .off,
      "the guest has powered off on the target",
      toDo: "end both QEMUs; the source must not be resumed"),
    RecoveryRule(
      "completed-target-stands", [.completed], [.stands], .nothing, owner: .target, .paused,
      "the guest stands on the target for a reason of its own",
      toDo: "'cont' on the target once that reason is gone; the source must not be resumed"),
    RecoveryRule(
      "completed-loading", [.completed], [.waiting], .wait, owner: .nobody, .paused,
      "the source has sent everything, and the target has not loaded it yet",
      toDo: "find out why the target does not finish; if it never will, end its QEMU",
      then: [.again]),
    RecoveryRule(
      "completed-writes-left", [.completed], [.incomplete], .wait, owner: .nobody, .paused,
      "the target has the guest, and its disks lack writes that the source's mirrors still hold",
      toDo: "find out why the mirrors do not get in sync; the target must not be resumed before",
      then: [.again]),
  ]

  private static let sourceCompletedTargetLoaded: [RecoveryRule] = [
    RecoveryRule(
      "completed-loaded", [.completed], [.loaded], cluster: [.none, .target], guestRun: [.ran],
      .resumeTarget, owner: .nobody, .paused,
      "the source has sent everything and can never run by itself; the target has loaded it"),
    RecoveryRule(
      "completed-loaded-stood", [.completed], [.loaded], cluster: [.none, .target],
      guestRun: [.stood], .nothing, owner: .target, .paused,
      "the target has the guest, which stood before the migration too",
      toDo: "'cont' on the target when it is to run; end the source's QEMU"),
    RecoveryRule(
      "completed-loaded-back", [.completed], [.loaded], cluster: [.source], guestRun: [.ran],
      targetPast: [.neverRan], .endTargetThenResumeSource, owner: .nobody, .paused,
      "both stand with the whole guest, the target never ran it, and ownership is with the source"),
    RecoveryRule(
      "completed-loaded-doubtful", [.completed], [.loaded], cluster: [.source], guestRun: [.ran],
      targetPast: [.mayHaveRun], .ask, owner: .nobody, .paused,
      "both stand with the whole guest, and it may have run on the target: the source's copy would "
        + "be stale",
      toDo: "establish whether it ever ran on the target; if so, move ownership there",
      then: [.targetNeverRan, .ownershipWithTarget]),
    RecoveryRule(
      "completed-loaded-stood-back", [.completed], [.loaded], cluster: [.source],
      guestRun: [.stood], .ask, owner: .nobody, .paused,
      "both stand with the whole guest, which stood before the migration too",
      toDo: "move ownership to the target, or end the target's QEMU if it never ran there",
      then: [.ownershipWithTarget, .targetFenced]),
    RecoveryRule(
      "completed-loaded-unowned", [.completed], [.loaded], cluster: [.unknown], .ask,
      owner: .nobody, .paused,
      "both stand with the whole guest, and where the cluster believes it to be is not known",
      toDo: "find out where its configuration is",
      then: [.ownershipWithSource, .ownershipWithTarget]),
    RecoveryRule(
      "completed-loaded-unasked", [.completed], [.loaded], .ask, owner: .nobody, .paused,
      "both stand with the whole guest, and whether it ran before the migration is not known",
      toDo: "find out whether it is to run", then: [.guestRan, .guestStood]),
  ]

  private static let sourceCompletedTargetLost: [RecoveryRule] = [
    RecoveryRule(
      "completed-target-silent", [.completed], [.unreachable], .ask, owner: .unknown, .unknown,
      "the source has sent everything, and the target, which may run the guest, cannot be asked",
      toDo: "reach the target's monitor, or prove that its QEMU cannot run", then: [.targetFenced]),
    RecoveryRule(
      "completed-target-failed", [.completed], [.failed], cluster: [.none, .source],
      guestRun: [.ran], targetPast: [.neverRan], .endTargetThenResumeSource, owner: .nobody,
      .paused,
      "the target could not load the guest, which stands on the source"),
    RecoveryRule(
      "completed-target-dead", [.completed], [.dead], cluster: [.none, .source], guestRun: [.ran],
      targetPast: [.neverRan], .resumeSource, owner: .nobody, .paused,
      "the target is gone and never ran the guest, which stands on the source"),
    RecoveryRule(
      "completed-target-lost-stood", [.completed], [.failed, .dead], cluster: [.none, .source],
      guestRun: [.stood], targetPast: [.neverRan], .nothing, owner: .source, .paused,
      "the target is of no use and never ran the guest, which stands on the source, as it did before",
      toDo: "end the target's QEMU if it lives, and 'cont' on the source when the guest is to run"),
    RecoveryRule(
      "completed-target-lost-unasked", [.completed], [.failed, .dead], cluster: [.none, .source],
      guestRun: [.unknown], targetPast: [.neverRan], .ask, owner: .nobody, .paused,
      "the target is of no use and never ran the guest; whether it ran before is not known",
      toDo: "find out whether it is to run", then: [.guestRan, .guestStood]),
    RecoveryRule(
      "completed-target-lost-unowned", [.completed], [.failed, .dead],
      cluster: [.target, .unknown], targetPast: [.neverRan], .ask, owner: .nobody, .paused,
      "the target is of no use and never ran the guest, and ownership may have moved there",
      toDo: "move ownership back to the source", then: [.ownershipWithSource]),
    RecoveryRule(
      "completed-target-lost-doubtful", [.completed], [.failed, .dead], .ask, owner: .nobody,
      .unknown,
      "the target is gone, and the guest may have run there: the source's copy would be stale",
      toDo: "establish that the guest never ran on the target, and that ownership is with the "
        + "source; else end the source's QEMU and start the guest afresh, on the target's disks "
        + "where they are its own", then: [.targetNeverRan]),
  ]

  // MARK: - The source is dead

  private static let sourceDeadTargetRuns: [RecoveryRule] = [
    RecoveryRule(
      "dead-target-runs", [.dead], [.runs], cluster: [.none, .target], .nothing, owner: .target,
      .running, "the guest runs on the target"),
    RecoveryRule(
      "dead-target-runs-unowned", [.dead], [.runs], .nothing, owner: .target, .running,
      "the guest runs on the target",
      toDo: "move ownership to the target before anybody starts the guest on the source"),
    RecoveryRule(
      "dead-target-off", [.dead], [.off], .nothing, owner: .target, .off,
      "the guest has powered off on the target", toDo: "end the target's QEMU"),
    RecoveryRule(
      "dead-target-stands", [.dead], [.stands], .nothing, owner: .target, .paused,
      "the guest stands on the target for a reason of its own",
      toDo: "'cont' on the target once that reason is gone"),
    RecoveryRule(
      "dead-loading", [.dead], [.waiting], .wait, owner: .nobody, .unknown,
      "the source is gone, and the target has not loaded the guest: it may still do so",
      toDo:
        "if it never loads, the guest died with its source: end the target's QEMU, and start the "
        + "guest afresh where its configuration is", then: [.again]),
  ]

  private static let sourceDeadTargetLoaded: [RecoveryRule] = [
    RecoveryRule(
      "dead-loaded", [.dead], [.loaded], cluster: [.none, .target], guestRun: [.ran],
      .resumeTarget, owner: .nobody, .paused,
      "the source is proven dead, and the target has loaded the whole guest"),
    RecoveryRule(
      "dead-loaded-stood", [.dead], [.loaded], cluster: [.none, .target], guestRun: [.stood],
      .nothing, owner: .target, .paused,
      "the target has the guest, which stood before the migration too",
      toDo: "'cont' on the target when it is to run"),
    RecoveryRule(
      "dead-loaded-elsewhere", [.dead], [.loaded], cluster: [.source], .ask, owner: .nobody,
      .paused,
      "the target has the whole guest, and ownership is with the source, which is gone",
      toDo:
        "move ownership to the target; or end its QEMU, and start the guest afresh on the source",
      then: [.ownershipWithTarget]),
    RecoveryRule(
      "dead-loaded-unowned", [.dead], [.loaded], cluster: [.unknown], .ask, owner: .nobody, .paused,
      "the target has the whole guest, and where the cluster believes it to be is not known",
      toDo: "make sure that ownership is with the target", then: [.ownershipWithTarget]),
    RecoveryRule(
      "dead-loaded-unasked", [.dead], [.loaded], .ask, owner: .nobody, .paused,
      "the target has the whole guest, and whether it ran before the migration is not known",
      toDo: "find out whether it is to run", then: [.guestRan, .guestStood]),
    RecoveryRule(
      "dead-writes-left", [.dead], [.incomplete], .ask, owner: .nobody, .paused,
      "the target has the guest, and its disks lack writes that were on the source alone",
      toDo: "end the target's QEMU, and start the guest afresh on the source's disks"),
  ]

  private static let sourceDeadTargetLost: [RecoveryRule] = [
    RecoveryRule(
      "dead-target-silent", [.dead], [.unreachable], .ask, owner: .unknown, .unknown,
      "the source is gone, and the target, which may run the guest, cannot be asked",
      toDo: "reach the target's monitor, or prove that its QEMU cannot run", then: [.targetFenced]),
    RecoveryRule(
      "dead-both-at-target", [.dead], [.failed, .dead], cluster: [.target], .nothing,
      owner: .target, .off, "neither QEMU can run the guest, whose ownership is with the target",
      toDo: "start the guest afresh there"),
    RecoveryRule(
      "dead-both-at-source", [.dead], [.failed, .dead], cluster: [.none, .source],
      targetPast: [.neverRan], .nothing, owner: .source, .off,
      "the guest died with the source, and the target never ran it",
      toDo: "end the target's QEMU if it lives, and start the guest afresh on the source"),
    RecoveryRule(
      "dead-both", [.dead], [.failed, .dead], .ask, owner: .nobody, .off,
      "neither QEMU can run the guest",
      toDo: "find out where its configuration is, and with local disks where it ran last; start it "
        + "afresh there"),
  ]

  // MARK: - The source cannot be asked

  private static let sourceUnreachable: [RecoveryRule] = [
    RecoveryRule(
      "silent-target-runs", [.unreachable], [.runs], .nothing, owner: .target, .running,
      "the guest runs on the target, and the source cannot be asked",
      toDo: "make sure that the source's QEMU has ended, or fence it"),
    RecoveryRule(
      "silent-loading", [.unreachable], [.waiting], .wait, owner: .unknown, .unknown,
      "the source cannot be asked, and the target has not loaded the guest",
      toDo: "reach the source's monitor, or prove that its QEMU cannot run", then: [.sourceFenced]),
    RecoveryRule(
      "silent-both", [.unreachable], [.unreachable], .ask, owner: .unknown, .unknown,
      "neither side can be asked",
      toDo: "reach one of the monitors, or prove that one of the QEMUs cannot run",
      then: [.sourceFenced, .targetFenced]),
    RecoveryRule(
      "silent", [.unreachable], [], .ask, owner: .unknown, .unknown,
      "the source, which may run the guest, cannot be asked",
      toDo: "reach the source's monitor, or prove that its QEMU cannot run", then: [.sourceFenced]),
  ]
}
