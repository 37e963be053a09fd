/// What recovery knows of one QEMU, and what that makes of it.
struct RecoveryObservation: Sendable {
  let side: Side
  var hasMonitor: Bool
  var release: QEMURelease?
  var isConnected = false
  var wasConnected = false
  var trouble: MonitorTrouble?
  /// It was connected, and did not answer.
  var isSilent = false
  /// We closed its monitor, since there is nothing more to be asked.
  var isLetGo = false
  var hasExited: Bool
  var isFenced: Bool
  /// It answered `quit`, and its monitor ended after that.
  var hasQuit = false

  // What it said in the present look.
  var runState: RunState?
  var report: MigrationReport?
  var jobs: [BlockJobReport]?
  /// An event told that the look may be out of date.
  var hasChanged = false

  init(_ side: Side, _ options: RecoveryOptions) {
    self.side = side
    hasMonitor = options[side].hasMonitor
    hasExited = options[side].isProvenDead
    isFenced = options[side].isFenced
  }

  /// Whether its monitor is either usable or given up.
  ///
  /// At the start even a side whose process is gone is tried: somebody else may have taken its place.
  var isResolved: Bool {
    isConnected || trouble != nil || isLetGo || !hasMonitor || (wasConnected && hasExited)
  }

  /// Its words count more than anybody's about it: one that answers is not dead.
  private var isDead: Bool {
    !answers && trouble != .stranger && (hasExited || isFenced || hasQuit)
  }

  private var answers: Bool { isConnected && !isSilent && runState != nil && report != nil }

  mutating func beginLook() {
    forgetAnswers()
    hasChanged = false
  }

  mutating func forgetAnswers() {
    runState = nil
    report = nil
    jobs = nil
  }

  /// A migration of the source that has not come to its end.
  private static func isOnItsWay(_ status: MigrationStatus) -> Bool {
    switch status {
    case .none, .completed, .failed, .cancelled: false
    default: true
    }
  }

  /// Whether QEMU takes settings now.
  var takesSettings: Bool {
    guard answers, let report else { return false }
    return runState != .inmigrate && !Self.isOnItsWay(report.status)
  }

  /// What it is as the source of the migration.
  var asSource: RecoverySituation.Source {
    guard let runState, let report, answers else { return isDead ? .dead : .unreachable }
    switch report.status {
    case .none, .completed, .failed, .cancelled:
      return Self.sourceAtRest(runState, report.status)
    case .preSwitchover:
      return .preSwitchover
    case .setup, .waitUnplug, .active:
      switch runState {
      case .running, .suspended, .paused, .ioError, .guestPanicked, .internalError, .watchdog,
        .shutdown, .debug:
        // Whoever stands in this way stood before: the switchover's own stop is `finish-migrate`.
        return .transferring
      default:
        return .switchingOver
      }
    case .device, .cancelling, .unrecognised:
      return .switchingOver
    }
  }

  private static func sourceAtRest(
    _ runState: RunState, _ status: MigrationStatus
  ) -> RecoverySituation.Source {
    switch runState {
    case .running, .suspended: return .runs
    case .paused, .ioError, .guestPanicked, .internalError, .watchdog, .debug: return .stands
    case .shutdown: return .off
    case .finishMigrate: return .switchingOver
    case .postmigrate:
      switch status {
      case .completed: return .completed
      // A guest that stood before a migration that failed at its end is left in this state.
      case .failed, .cancelled: return .stands
      default: return .unreachable
      }
    case .inmigrate, .prelaunch, .saveVM, .restoreVM, .colo, .unrecognised: return .unreachable
    }
  }

  /// What it is as the target of the migration.
  ///
  /// - Parameters:
  ///   - isDisarmed: it was told to `stop` while it was `inmigrate`.
  ///   - writesAreLeft: the source's mirrors hold writes that its disks have not got.
  func asTarget(isDisarmed: Bool, writesAreLeft: Bool) -> RecoverySituation.Target {
    guard let runState, let report, answers else { return isDead ? .dead : .unreachable }
    switch runState {
    case .running, .suspended:
      return .runs
    case .inmigrate:
      if report.status == .failed { return .failed }
      return isDisarmed ? .waiting : .unreachable
    case .paused:
      switch report.status {
      case .completed: return writesAreLeft ? .incomplete : .loaded
      case .none, .failed, .cancelled: return .unreachable
      default: return isDisarmed ? .waiting : .unreachable
      }
    case .ioError, .guestPanicked, .internalError, .watchdog, .debug:
      return report.status == .completed ? .stands : .unreachable
    case .shutdown:
      return report.status == .completed ? .off : .unreachable
    case .prelaunch, .finishMigrate, .postmigrate, .saveVM, .restoreVM, .colo, .unrecognised:
      return .unreachable
    }
  }

  /// One sentence for a person.
  var finding: String {
    if let runState, let report, answers {
      let version = release.map { "QEMU \($0)" } ?? "QEMU"
      let status = report.status == .none ? "no migration" : "migration \(report.status.qemuName)"
      return "\(side): \(version) answers: \(runState.qemuName), \(status)"
    }
    if hasQuit { return "\(side): its QEMU has been ended" }
    if hasExited, trouble != .stranger { return "\(side): its process has ended" }
    let word = isFenced ? "; fenced, by the host program's word" : ""
    switch trouble {
    case .busy: return "\(side): its monitor is busy: another client holds it\(word)"
    case .unreachable(let text): return "\(side): its monitor cannot be reached: \(text)\(word)"
    case .protocolViolated(let text):
      return "\(side): its monitor does not speak QMP: \(text)\(word)"
    case .stranger: return "\(side): another QEMU answers at its monitor now\(word)"
    case nil: break
    }
    if isSilent { return "\(side): its monitor does not answer\(word)" }
    return hasMonitor ? "\(side): nothing is known\(word)" : "\(side): no monitor was named\(word)"
  }
}
