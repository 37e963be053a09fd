/// The grant: `cont` to the target, and what is known of its way there (I1).
///
/// This value alone says when the grant may go out and when the source may be resumed.
struct Grant: Sendable {
  enum State: Hashable, Sendable {
    /// No `cont` has ever been written to the target.
    case never
    /// Written; no reply yet.
    case sent
    /// QEMU answered `{}`: the target runs, or is armed and will run when it has loaded.
    case accepted
    /// QEMU answered with an error: it does not run by this grant.
    case refused(Refusal)
    /// The reply was lost: it may run.
    case unknown
    /// The host program grants by itself (`external`), and was asked to.
    case withHostProgram
  }

  private(set) var state = State.never
  /// RESUME, or `running` from `query-status`, seen on the target after the grant.
  private(set) var targetRuns = false

  /// Whether the target may run now or later because of a grant.
  var mayHaveReached: Bool {
    switch state {
    case .never, .refused: false
    case .sent, .accepted, .unknown, .withHostProgram: true
    }
  }

  /// Both proofs: a positive reply (or none to be had) and a target that was seen running.
  var isConfirmed: Bool {
    targetRuns && (state == .accepted || state == .unknown || state == .withHostProgram)
  }

  mutating func written() { state = .sent }

  mutating func givenToHostProgram() { state = .withHostProgram }

  mutating func replied(_ reply: CommandReply) {
    guard state == .sent || state == .unknown else { return }
    switch reply {
    case .answered: state = .accepted
    case .refused(let refusal): state = .refused(refusal)
    case .lost: state = .unknown
    }
  }

  mutating func targetSeenRunning() {
    if mayHaveReached { targetRuns = true }
  }

  /// What must hold before `cont` may go to the target. Each member is proven, not believed.
  struct Requirements: Sendable {
    /// The source's own `completed`, or the source proven dead and the target's own `completed`.
    var sourceCannotRun: Bool
    /// `stop` was sent to the target while it was `inmigrate`, and confirmed.
    var targetDisarmed: Bool
    /// The guest ran at the switchover (I8).
    var guestRan: Bool
    /// Ownership has moved, where it has to move first.
    var handedOver: Bool
    var guestIsOff: Bool
  }

  static func isAllowed(_ requirements: Requirements) -> Bool {
    requirements.sourceCannotRun && requirements.targetDisarmed && requirements.guestRan
      && requirements.handedOver && !requirements.guestIsOff
  }

  /// Whether the target is proven unable to run and not to have run, so that a source that reported `completed` may be
  /// resumed where ownership is with it.
  ///
  /// - Parameters:
  ///   - targetDisarmed: it was disarmed and we alone spoke to its monitor.
  ///   - monitorEnded: its monitor's connection ended.
  ///   - processExited: the kernel says that its process is gone.
  ///   - heardToTheEnd: the connection that carried the grant ended with the process, and not before.
  ///   - quitAccepted: it stood when it was told to end, and took that.
  ///   - couldNotLoad: its own migration `failed`: it has no guest that it could run.
  ///   - fenced: the host program's word.
  func isKnownNotToRun(
    targetDisarmed: Bool, monitorEnded: Bool, processExited: Bool, heardToTheEnd: Bool,
    quitAccepted: Bool, couldNotLoad: Bool, fenced: Bool
  ) -> Bool {
    // Where it ran, the source's guest is of the past, even if nothing runs there any more.
    if targetRuns { return false }
    if fenced || couldNotLoad { return true }
    switch state {
    case .never, .refused: return targetDisarmed
    case .sent, .accepted, .unknown: return monitorEnded && processExited && heardToTheEnd
    // Nobody but the host program grants, and it says that it did not.
    case .withHostProgram: return monitorEnded && (quitAccepted || processExited)
    }
  }
}
