/// Why a migration did not complete; the numbers are those of the C header.
public enum FailureCode: Int, Hashable, Sendable, CaseIterable {
  case monitorUnreachable = 1
  case monitorBusy = 2
  case monitorLost = 3
  case protocolViolated = 4
  case sourceUnfit = 5
  case targetUnfit = 6
  case mismatch = 7
  case command = 8
  case migration = 9
  case targetGone = 10
  case sourceGone = 11
  case cancelledElsewhere = 12
  case deadline = 13
  case handOver = 14
  case notResumed = 15
  case guestOff = 16
  case outcomeUnknown = 17
  case internalContradiction = 18
  case storage = 19
  case journal = 20
}

/// What went wrong, in fields for programs and one sentence for people.
public struct Failure: Hashable, Sendable {
  public var code: FailureCode
  public var side: Side?
  /// QMP's name of the command that failed.
  public var command: String?
  public var errorClass: String?
  public var text: String

  public init(
    _ code: FailureCode, side: Side? = nil, command: String? = nil, errorClass: String? = nil,
    text: String
  ) {
    self.code = code
    self.side = side
    self.command = command
    self.errorClass = errorClass
    self.text = text
  }
}

/// How it ended: who owns the guest, what the guest does, why, and the safe next step (I2).
public struct Conclusion: Hashable, Sendable {
  public var end: MigrationEnd
  public var owner: Owner
  public var guest: GuestCondition
  public var failure: Failure?
  /// One sentence, or empty when nothing is left to do.
  public var nextStep: String

  public init(
    end: MigrationEnd, owner: Owner, guest: GuestCondition, failure: Failure? = nil,
    nextStep: String = ""
  ) {
    self.end = end
    self.owner = owner
    self.guest = guest
    self.failure = failure
    self.nextStep = nextStep
  }
}
