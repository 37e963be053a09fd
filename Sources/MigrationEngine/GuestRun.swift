/// Whether the guest ran at the switchover (I8), followed by STOP, RESUME and `query-status`.
struct GuestRun: Sendable {
  enum Verdict: Hashable, Sendable {
    case ran
    /// It stood by its own or its owner's wish: it is not to be resumed.
    case stood(RunState)
    /// A STOP is not explained yet.
    case unsettled
  }

  private(set) var verdict = Verdict.unsettled
  /// A STOP was seen, and no `query-status` has explained it.
  private(set) var stopUnexplained = false

  /// `query-status` on the source.
  mutating func reported(_ state: RunState) {
    switch state {
    case .running, .suspended:
      verdict = .ran
      stopUnexplained = false
    case .finishMigrate, .postmigrate:
      // The STOP was the migration's own. A guest that stood before it stays one that stood: then
      // QEMU sends no second STOP.
      if case .stood = verdict {} else { verdict = .ran }
      stopUnexplained = false
    case .unrecognised, .inmigrate, .prelaunch, .restoreVM, .saveVM, .debug, .colo:
      break
    case .paused, .ioError, .guestPanicked, .internalError, .shutdown, .watchdog:
      verdict = .stood(state)
      stopUnexplained = false
    }
  }

  /// STOP on the source while the migration is on its way; answers whether to ask for its reason.
  mutating func stopped() -> Bool {
    guard verdict == .ran else { return false }
    verdict = .unsettled
    stopUnexplained = true
    return true
  }

  /// RESUME on the source.
  mutating func resumed() {
    verdict = .ran
    stopUnexplained = false
  }
}
