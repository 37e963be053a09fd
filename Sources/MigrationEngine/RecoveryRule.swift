/// What recovery does about a situation.
public enum RecoveryAction: Int, Hashable, Sendable, CaseIterable {
  /// Nothing is left to do about the guest.
  case nothing = 1
  /// QEMU has not decided: look again, for a limited time; then it is asked.
  case wait = 2
  /// `migrate_cancel` to the source, then look again.
  case cancelMigration = 3
  /// `cont` to the target, behind the end of every outside writer (I3).
  case resumeTarget = 4
  /// `stop` and `quit` to the target, whose end is awaited; the next look resumes the source.
  case endTargetThenResumeSource = 5
  /// `cont` to the source, after the end of its mirrors.
  case resumeSource = 6
  /// `quit` to the source, where the migration was to end it.
  case quitSource = 7
  /// Nothing is safe: a person has to establish something.
  case ask = 8
}

extension RecoveryAction: CustomStringConvertible {
  public var description: String {
    switch self {
    case .nothing: "nothing"
    case .wait: "wait"
    case .cancelMigration: "cancel the migration"
    case .resumeTarget: "resume the target"
    case .endTargetThenResumeSource: "end the target, then resume the source"
    case .resumeSource: "resume the source"
    case .quitSource: "quit the source"
    case .ask: "ask"
    }
  }
}

/// What a person can say that recovery cannot see.
public enum RecoveryWord: Hashable, Sendable, CaseIterable {
  case sourceFenced, targetFenced
  case ownershipWithSource, ownershipWithTarget
  case guestRan, guestStood
  case targetNeverRan
  /// Nothing new: look again later.
  case again
}

extension RecoveryWord: CustomStringConvertible {
  /// As the command takes it.
  public var description: String {
    switch self {
    case .sourceFenced: "--fenced source"
    case .targetFenced: "--fenced target"
    case .ownershipWithSource: "--ownership source"
    case .ownershipWithTarget: "--ownership target"
    case .guestRan: "--guest-ran yes"
    case .guestStood: "--guest-ran no"
    case .targetNeverRan: "--target-never-ran"
    case .again: ""
    }
  }
}

/// One row of the recovery table: the situations that it is for, and what is decided about them.
public struct RecoveryRule: Sendable {
  /// The states of one dimension that a rule is for; none named means all.
  public struct Pattern<State: Hashable & Sendable>: Hashable, Sendable,
    ExpressibleByArrayLiteral, CustomStringConvertible
  {
    public var states: [State]

    public init(arrayLiteral states: State...) { self.states = states }

    public func matches(_ state: State) -> Bool { states.isEmpty || states.contains(state) }

    /// The states' names with a bar between them, or `any`.
    public var description: String {
      states.isEmpty ? "any" : states.map { "\($0)" }.joined(separator: "|")
    }
  }

  /// Short, stable, unique.
  public var name: String
  public var source: Pattern<RecoverySituation.Source>
  public var target: Pattern<RecoverySituation.Target>
  public var cluster: Pattern<RecoverySituation.Cluster>
  public var guestRun: Pattern<RecoverySituation.GuestRun>
  public var targetPast: Pattern<RecoverySituation.TargetPast>
  public var action: RecoveryAction
  /// Who owns the guest as things stand, before the action.
  public var owner: Owner
  public var guest: GuestCondition
  /// What the situation means: one sentence for a person.
  public var meaning: String
  /// What a person must do or establish, where recovery does not do it; empty: nothing.
  public var toDo: String
  /// What to tell recovery after that; one of them is enough unless `toDo` says otherwise.
  public var words: [RecoveryWord]

  init(
    _ name: String, _ source: Pattern<RecoverySituation.Source>,
    _ target: Pattern<RecoverySituation.Target>,
    cluster: Pattern<RecoverySituation.Cluster> = [],
    guestRun: Pattern<RecoverySituation.GuestRun> = [],
    targetPast: Pattern<RecoverySituation.TargetPast> = [],
    _ action: RecoveryAction, owner: Owner, _ guest: GuestCondition, _ meaning: String,
    toDo: String = "", then words: [RecoveryWord] = []
  ) {
    self.name = name
    self.source = source
    self.target = target
    self.cluster = cluster
    self.guestRun = guestRun
    self.targetPast = targetPast
    self.action = action
    self.owner = owner
    self.guest = guest
    self.meaning = meaning
    self.toDo = toDo
    self.words = words
  }

  public func matches(_ situation: RecoverySituation) -> Bool {
    source.matches(situation.source) && target.matches(situation.target)
      && cluster.matches(situation.cluster) && guestRun.matches(situation.guestRun)
      && targetPast.matches(situation.targetPast)
  }
}
