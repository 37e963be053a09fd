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
  /// The monitor was lost while the guest ran, so a STOP may have been missed: what stands for the
  /// switchover now may have stood before it.
  private var mayHaveMissedStop = false
  /// It stands for the switchover: no pause of its own can come any more.
  private var standsForSwitchover = false

  /// `query-status` on the source.
  mutating func reported(_ state: RunState) {
    switch state {
    case .running, .suspended:
      resumed()
    case .finishMigrate, .postmigrate:
      // The STOP was the migration's own. A guest that stood before it stays one that stood: then
      // QEMU sends no second STOP.
      if case .stood = verdict {} else { verdict = mayHaveMissedStop ? .unsettled : .ran }
      stopUnexplained = false
      standsForSwitchover = true
    case .unrecognised, .inmigrate, .prelaunch, .restoreVM, .saveVM, .debug, .colo:
      break
    case .paused, .ioError, .guestPanicked, .internalError, .shutdown, .watchdog:
      verdict = .stood(state)
      stopUnexplained = false
      mayHaveMissedStop = false
    }
  }

  /// A STOP, or the time in which nobody could hear one, is still to be explained by `query-status`.
  var isInQuestion: Bool { stopUnexplained || mayHaveMissedStop && verdict == .ran }

  /// The answer that was to explain a STOP was lost: by the next one the switchover may have begun, and
  /// hide a pause that came before it.
  mutating func explanationLost() {
    if stopUnexplained { mayHaveMissedStop = true }
  }

  /// Nobody will explain it any more.
  mutating func leaveOpen() {
    if isInQuestion { verdict = .unsettled }
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
    mayHaveMissedStop = false
    standsForSwitchover = false
  }

  /// The source's monitor was lost: nobody hears a STOP before it is back.
  mutating func lostFromSight() {
    if case .stood = verdict { return }
    if !standsForSwitchover { mayHaveMissedStop = true }
  }
}
