/// What recovery is told before it looks: the journal's facts, the kernel's, and the host program's word.
public struct RecoveryOptions: Sendable {
  /// One side of the pair.
  public struct QEMU: Sendable {
    /// Whether there is a monitor to ask it on.
    public var hasMonitor = false
    /// The kernel says that the journal's process (by number and start time) is gone.
    public var isProvenDead = false
    /// The host program's word: it cannot run now, nor later by itself.
    public var isFenced = false
    /// What the migration changed, as it was before.
    public var capabilities: [CapabilitySetting] = []
    public var parameters: [ParameterSetting] = []

    public init() {}

    /// The commands that put it back.
    var restoringCommands: [Command] {
      var commands: [Command] = []
      if !capabilities.isEmpty { commands.append(.setCapabilities(capabilities)) }
      if !parameters.isEmpty { commands.append(.setParameters(parameters)) }
      return commands
    }
  }

  /// A mirror of the journal.
  public struct Mirror: Hashable, Sendable {
    public var jobID: String
    public var node: String?
    public var isOurs: Bool

    public init(jobID: String, node: String?, isOurs: Bool) {
      self.jobID = jobID
      self.node = node
      self.isOurs = isOurs
    }
  }

  /// What the journal says of the migration itself.
  public struct Journal: Sendable {
    public var handOver: HandOverMode
    public var sourceEnd: SourceEnd
    /// The source's run state before the migration; nil: it was not known.
    public var runState: RunState?
    public var mirrors: [Mirror]

    public init(
      handOver: HandOverMode, sourceEnd: SourceEnd, runState: RunState?, mirrors: [Mirror]
    ) {
      self.handOver = handOver
      self.sourceEnd = sourceEnd
      self.runState = runState
      self.mirrors = mirrors
    }
  }

  public var source = QEMU()
  public var target = QEMU()
  /// nil: there is none, and only what both QEMUs say counts.
  public var journal: Journal?
  /// The host program's word on where ownership is; nil: it gave none.
  public var cluster: RecoverySituation.Cluster?
  /// The host program's word on whether the guest is to run.
  public var guestRan: Bool?
  /// The host program's word: the guest never ran on the target.
  public var targetNeverRan = false
  /// Looks and decides; changes nothing.
  public var isDryRun = false
  /// How long QEMU may take to decide by itself before a person is asked.
  public var settleLimit = Span.seconds(60)
  /// How long mirrors may take to end before their connections are broken.
  public var yankLimit = Span.seconds(2)

  public init() {}

  subscript(side: Side) -> QEMU { side == .source ? source : target }

  /// What the journal and the host program say, one sentence each.
  var findings: [String] {
    var findings: [String] = []
    if let journal {
      let before = journal.runState.map { "the guest was \($0.qemuName) before" } ?? ""
      let end = journal.sourceEnd == .quit ? "the source's QEMU is to be ended" : ""
      let parts = ["hand-over \(journal.handOver.words)", before, end].filter { !$0.isEmpty }
      findings.append("journal: \(parts.joined(separator: ", "))")
    } else {
      findings.append("journal: none")
    }
    var words: [String] = []
    if let cluster { words.append("ownership \(cluster)") }
    if let guestRan { words.append(guestRan ? "the guest ran" : "the guest stood") }
    if targetNeverRan { words.append("it never ran on the target") }
    if !words.isEmpty {
      findings.append("the host program's word: \(words.joined(separator: ", "))")
    }
    return findings
  }
}

extension HandOverMode {
  /// For a text.
  fileprivate var words: String {
    switch self {
    case .beforeResume: "before the target resumes"
    case .afterResume: "after the target resumed"
    case .none: "none"
    case .external: "by the host program, which resumes the target"
    }
  }
}

/// What recovery found, did, and leaves to be done.
public struct RecoveryConclusion: Hashable, Sendable {
  /// The name of the row that decided.
  public var rule: String
  /// What was done last; in a dry run, or where nothing was done, what the table decides.
  public var action: RecoveryAction
  public var owner: Owner
  public var guest: GuestCondition
  /// What the situation means, or why an action failed: one sentence.
  public var text: String
  /// What a person has to do; empty: nothing.
  public var toDo: String
  /// What to tell recovery after that.
  public var words: [RecoveryWord]
  /// What was seen and heard, one sentence each.
  public var findings: [String]
  /// What was done, one sentence each.
  public var deeds: [String]

  public init(
    rule: String, action: RecoveryAction, owner: Owner, guest: GuestCondition, text: String,
    toDo: String, words: [RecoveryWord], findings: [String], deeds: [String]
  ) {
    self.rule = rule
    self.action = action
    self.owner = owner
    self.guest = guest
    self.text = text
    self.toDo = toDo
    self.words = words
    self.findings = findings
    self.deeds = deeds
  }

  /// What to do, and what to say to recovery then; empty: nothing.
  public var nextStep: String {
    let said = words.filter { $0 != .again }.map { "\($0)" }.joined(separator: " or ")
    switch (words.isEmpty, said.isEmpty) {
    case (true, _): return toDo
    case (false, true): return "\(toDo); then 'switchover recover' again"
    case (false, false): return "\(toDo); then 'switchover recover' with \(said)"
    }
  }

  /// Whether the pair has one owner now.
  public var isSettled: Bool { owner == .source || owner == .target }
}
