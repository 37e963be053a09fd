/// Brings a pair of QEMUs to one owner after whoever migrated the guest has gone: facts in, effects out.
///
/// It looks at both QEMUs, decides by `RecoveryTable`, acts, and looks again, until the table has
/// nothing more to do or a person has to be asked. It speaks through the monitors that the migration
/// used: QEMU greets a client only after the one before has gone, so that no old grant can arrive.
public struct RecoveryEngine: Sendable {
  enum Step: Hashable, Sendable {
    case idle, connecting, looking, settling, acting, tidying, ended
  }

  /// How long one look at both QEMUs may take; their main loops may be busy.
  static let lookLimit = Span.seconds(30)
  /// From one look to the next while QEMU decides by itself.
  static let settleInterval = Span.milliseconds(250)
  /// How often one action is tried.
  static let attemptLimit = 3
  /// How long all of it may take beyond `settleLimit`, whatever the QEMUs say.
  static let overallLimit = Span.seconds(300)
  /// Steps that one input may lead through; the bound only guards against a contradiction.
  private static let stepLimit = 64

  public let options: RecoveryOptions
  /// Set when it has ended, or only puts things in order.
  public private(set) var conclusion: RecoveryConclusion?
  /// What the last look came to; nil before the first.
  public private(set) var situation: RecoverySituation?

  var step = Step.idle
  var source: RecoveryObservation
  var target: RecoveryObservation
  var awaited = AwaitedReplies()
  var alarms = Alarms()
  var now = MonotonicInstant(nanoseconds: 0)

  private var startRequested = false
  /// `stop` was answered by the target of the present connection, which was `inmigrate` before.
  private var targetIsDisarmed = false
  /// We wrote `cont` to the target.
  var hasGranted = false
  /// The target was seen in a state in which it had never run, and nothing was missed since.
  var targetIsKnownUnrun = false
  /// RESUME came from the target, or it was seen running.
  private var targetWasSeenRunning = false
  /// What the source's guest did while we saw the migration on its way.
  private var guestRunSeen: RecoverySituation.GuestRun?
  private var settleDeadline: MonotonicInstant?
  var attempts: [RecoveryAction: Int] = [:]
  private(set) var lastAct: RecoveryAction?
  private var tidyAttempts = 0

  /// The deeds of the present action, or of tidying up, that are still to be done; the first is
  /// under way when `deedIsBegun`.
  var plan: [RecoveryDeed] = []
  var deedIsBegun = false
  /// The replies to the present deed's commands.
  var replies: [Command: CommandReply] = [:]
  var mirrorEnding = MirrorEnding()
  var outOfBandIsReady = false
  var deeds: [String] = []

  public init(options: RecoveryOptions) {
    self.options = options
    source = RecoveryObservation(.source, options)
    target = RecoveryObservation(.target, options)
  }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  public var nextDeadline: MonotonicInstant? { step == .ended ? nil : alarms.next(after: now) }

  /// Takes one input and appends what is to be done about it, in order.
  public mutating func handle(
    _ input: EngineInput, at now: MonotonicInstant, effects: inout [EngineEffect]
  ) {
    guard step != .ended else { return }
    self.now = now
    absorb(input)
    if step != .tidying, alarms.takeDue(.transferLimit, at: now) {
      fail("it took too long to find out what both QEMUs do", &effects)
    }
    for _ in 0..<Self.stepLimit {
      let before = step
      advance(&effects)
      if step == before || step == .ended { return }
    }
  }

  private mutating func advance(_ effects: inout [EngineEffect]) {
    switch step {
    case .idle:
      guard startRequested else { return }
      step = .connecting
      alarms.set(.transferLimit, now + options.settleLimit + Self.overallLimit)
    case .connecting:
      if source.isResolved, target.isResolved { beginLook(&effects) }
    case .looking:
      look(&effects)
    case .settling:
      if alarms.takeDue(.poll, at: now) { beginLook(&effects) }
    case .acting:
      act(&effects)
    case .tidying:
      tidy(&effects)
    case .ended:
      break
    }
  }

  subscript(side: Side) -> RecoveryObservation {
    get { side == .source ? source : target }
    set { if side == .source { source = newValue } else { target = newValue } }
  }

  /// Sends a command whose reply the present step waits for.
  mutating func ask(_ command: Command, _ side: Side, _ effects: inout [EngineEffect]) {
    awaited.add(command, side)
    effects.append(.send(command, to: side))
  }

  mutating func letGo(of side: Side, _ effects: inout [EngineEffect]) {
    self[side].isLetGo = true
    effects.append(.letGo(of: side))
  }
}

// MARK: - What every input adds

extension RecoveryEngine {
  private mutating func absorb(_ input: EngineInput) {
    switch input {
    case .startRequested: startRequested = true
    case .fenced(let side): self[side].isFenced = true
    case .monitorReady(let side, let release): monitorReady(side, release)
    case .monitorLost(let side):
      self[side].isConnected = false
      self[side].forgetAnswers()
      self[side].hasChanged = true
    case .monitorUnavailable(let side, let trouble):
      self[side].isConnected = false
      self[side].trouble = trouble
    case .processExited(let side): self[side].hasExited = true
    case .outOfBandChanged(.source, let isReady): outOfBandIsReady = isReady
    case .replied(let side, let command, let reply, _): replied(side, command, reply)
    case .eventArrived(let side, let event, _): arrived(event, side)
    case .cancelRequested, .handOverReported, .handedBack, .downtimeLimitRequested,
      .heardToTheEnd, .outOfBandChanged, .intentStored, .intentNotStored, .clientsWait, .timePassed:
      break
    }
  }

  private mutating func monitorReady(_ side: Side, _ release: QEMURelease) {
    self[side].isConnected = true
    self[side].wasConnected = true
    self[side].trouble = nil
    self[side].release = release
    self[side].hasChanged = true
    guard side == .target else { return }
    // Others may have spoken to it in between.
    targetIsDisarmed = false
    targetIsKnownUnrun = false
  }

  private mutating func replied(_ side: Side, _ command: Command, _ reply: CommandReply) {
    awaited.remove(command, side)
    replies[command] = reply
    switch reply {
    case .answered(.runState(let state)):
      self[side].runState = state
      if side == .target, state == .running || state == .suspended { targetRan() }
    case .answered(.migration(let report)):
      self[side].report = report
    case .answered(.blockJobs(let jobs)):
      self[side].jobs = jobs
    case .answered, .refused, .lost:
      break
    }
    if command == .stop, side == .target, case .answered = reply {
      targetIsDisarmed = true
      if step == .looking {
        note(
          "told the target to 'stop' while it was waiting for the guest: it starts only when told")
      }
    }
  }

  private mutating func arrived(_ event: QEMUEvent, _ side: Side) {
    switch event {
    case .stop, .shutdown, .migration, .suspend, .wakeup, .guestPanicked, .reset:
      self[side].hasChanged = true
    case .resume:
      self[side].hasChanged = true
      if side == .target { targetRan() }
    case .migrationPass, .blockJobReady, .blockJobCompleted, .blockJobCancelled, .jobStatusChanged,
      .other:
      break
    }
  }

  private mutating func targetRan() {
    targetWasSeenRunning = true
    targetIsKnownUnrun = false
  }
}

// MARK: - Looking

extension RecoveryEngine {
  mutating func beginLook(_ effects: inout [EngineEffect]) {
    step = .looking
    replies = [:]
    alarms.clear(.poll)
    alarms.set(.step, now + Self.lookLimit)
    for side in Side.allCases {
      self[side].beginLook()
      askEverything(side, &effects)
    }
  }

  private mutating func askEverything(_ side: Side, _ effects: inout [EngineEffect]) {
    guard self[side].isConnected, !self[side].isSilent else { return }
    ask(.queryStatus, side, &effects)
    ask(.queryMigrate, side, &effects)
    if side == .source { ask(.queryBlockJobs, side, &effects) }
  }

  private mutating func look(_ effects: inout [EngineEffect]) {
    if alarms.takeDue(.step, at: now) {
      giveUpSilentSides(&effects)
      beginLook(&effects)
    }
    // A monitor that was lost comes back, or is given up.
    guard source.isResolved, target.isResolved else { return }
    guard isAnswered(.source), isAnswered(.target) else { return }
    if source.hasChanged || target.hasChanged {
      beginLook(&effects)
      return look(&effects)
    }
    if target.runState == .inmigrate, !targetIsDisarmed, !options.isDryRun {
      disarm(&effects)
      return
    }
    judge(&effects)
  }

  private func isAnswered(_ side: Side) -> Bool {
    !self[side].isConnected || self[side].isSilent || awaited.isEmpty(side)
  }

  /// A target that does not answer in time counts as one that cannot be reached, likewise one whose
  /// monitor hangs between greeting and loss.
  private mutating func giveUpSilentSides(_ effects: inout [EngineEffect]) {
    for side in Side.allCases where !self[side].isResolved || !isAnswered(side) {
      self[side].isSilent = true
      letGo(of: side, &effects)
    }
  }

  /// The first look found it `inmigrate`: from `stop` on it does not start by itself, whatever was
  /// asked of it before. What it says after that counts.
  private mutating func disarm(_ effects: inout [EngineEffect]) {
    // It says so only after `stop` has been carried out; where that is refused, it never counts as
    // waiting.
    guard replies[.stop] == nil else {
      judge(&effects)
      return
    }
    ask(.stop, .target, &effects)
    target.beginLook()
    askEverything(.target, &effects)
  }

  mutating func note(_ deed: String) { if !deeds.contains(deed) { deeds.append(deed) } }
}

// MARK: - Deciding

extension RecoveryEngine {
  private mutating func judge(_ effects: inout [EngineEffect]) {
    let situation = currentSituation()
    self.situation = situation
    guard let rule = RecoveryTable.rule(for: situation) else {
      assertionFailure("no row for \(situation)")
      conclude(
        RecoveryConclusion(
          rule: "none", action: .ask, owner: .unknown, guest: .unknown,
          text: "the recovery table has no row for this situation", toDo: "look at both QEMUs",
          words: [], findings: [], deeds: []), &effects)
      return
    }
    switch rule.action {
    case .nothing, .ask:
      conclude(rule, &effects)
    case .quitSource where !sourceIsToQuit:
      conclude(rule, &effects, action: .nothing)
    case .wait:
      if settleDeadline == nil { settleDeadline = now + options.settleLimit }
      guard !options.isDryRun, let settleDeadline, now < settleDeadline else {
        conclude(rule, &effects, action: options.isDryRun ? .wait : .ask)
        return
      }
      settle()
    case .cancelMigration, .resumeTarget, .endTargetThenResumeSource, .resumeSource, .quitSource:
      begin(rule, &effects)
    }
  }

  /// Looks again a little later.
  mutating func settle() {
    step = .settling
    alarms.clear(.step)
    alarms.set(.poll, now + Self.settleInterval)
  }

  private mutating func begin(_ rule: RecoveryRule, _ effects: inout [EngineEffect]) {
    if options.isDryRun {
      conclude(rule, &effects)
      return
    }
    let attempt = (attempts[rule.action] ?? 0) + 1
    guard attempt <= Self.attemptLimit else {
      fail("'\(rule.action)' has had no effect after \(Self.attemptLimit) attempts", &effects)
      return
    }
    attempts[rule.action] = attempt
    lastAct = rule.action
    effects.append(.log("\(rule.meaning): \(rule.action)"))
    plan = plan(for: rule.action)
    deedIsBegun = false
    step = .acting
  }

  /// What is known, as the table asks for it.
  private mutating func currentSituation() -> RecoverySituation {
    let sourceState = source.asSource
    let targetState = target.asTarget(
      isDisarmed: targetIsDisarmed || options.isDryRun,
      writesAreLeft: sourceState == .completed && writesAreLeft)
    if sourceState == .transferring { noteGuestOfTransfer() }
    let cluster = clusterBelief
    if targetHasNotRun(sourceState, targetState, cluster) { targetIsKnownUnrun = true }
    return RecoverySituation(
      source: sourceState, target: targetState, cluster: cluster, guestRun: guestRun,
      targetPast: targetIsProvenUnrun || wordOfUnrunTargetHolds ? .neverRan : .mayHaveRun)
  }

  /// Whether this look shows that the guest has not run on the target so far.
  private func targetHasNotRun(
    _ source: RecoverySituation.Source, _ target: RecoverySituation.Target,
    _ cluster: RecoverySituation.Cluster
  ) -> Bool {
    if hasGranted || targetWasSeenRunning || target == .runs { return false }
    switch target {
    case .waiting, .failed:
      return true
    case .loaded, .incomplete:
      // Our grant never precedes the hand-over.
      return options.journal?.handOver == .beforeResume && cluster == .source
    case .unreachable, .dead:
      // Our target is disarmed before the journal is written, and granted only after `completed`.
      return options.journal != nil && (source == .transferring || source == .preSwitchover)
    case .runs, .stands, .off:
      return false
    }
  }

  /// QEMU says RESUME before it lets a guest run. Where its monitor was lost, only its own end shows
  /// that nothing was missed.
  private var targetIsProvenUnrun: Bool {
    targetIsKnownUnrun
      && (!target.wasConnected || target.isConnected || target.hasExited || target.hasQuit)
  }

  /// What we have done or seen since counts more than the host program's word.
  private var wordOfUnrunTargetHolds: Bool {
    options.targetNeverRan && !hasGranted && !targetWasSeenRunning
  }

  /// Without the host program's word only a hand-over that follows the guest is of no account; and one
  /// that precedes the grant is done where the grant has been carried out.
  private var clusterBelief: RecoverySituation.Cluster {
    if let cluster = options.cluster { return cluster }
    if targetWasSeenRunning { return .none }
    switch options.journal?.handOver {
    case .some(.none), .afterResume: return .none
    case .beforeResume, .external, nil: return .unknown
    }
  }

  private var guestRun: RecoverySituation.GuestRun {
    if let ran = options.guestRan { return ran ? .ran : .stood }
    if targetWasSeenRunning { return .ran }
    if let guestRunSeen { return guestRunSeen }
    switch options.journal?.runState {
    case .running, .suspended: return .ran
    case .paused, .ioError, .guestPanicked, .internalError, .watchdog, .shutdown, .prelaunch,
      .debug:
      return .stood
    default: return .unknown
    }
  }

  private mutating func noteGuestOfTransfer() {
    switch source.runState {
    case .running, .suspended: guestRunSeen = .ran
    default: guestRunSeen = .stood
    }
  }

  /// The source's mirrors still copy, or lag behind (I3).
  private var writesAreLeft: Bool {
    guard let jobs = source.jobs else { return false }
    return jobs.contains { job in
      let isOurs = options.journal.map { $0.mirrors.contains { $0.jobID == job.id } } ?? true
      return isOurs && job.isLive && (job.length != job.offset || !job.isReady)
    }
  }

  /// A source is ended where the migration was to end it, and nobody can take its end for the guest's.
  private var sourceIsToQuit: Bool {
    guard let journal = options.journal, journal.sourceEnd == .quit else { return false }
    return journal.handOver != .afterResume || options.cluster == .target
  }
}

// MARK: - Ending

extension RecoveryEngine {
  private mutating func conclude(
    _ rule: RecoveryRule, _ effects: inout [EngineEffect], action: RecoveryAction? = nil
  ) {
    let action = action ?? rule.action
    let isDone = action == .nothing
    conclude(
      RecoveryConclusion(
        rule: rule.name, action: isDone ? lastAct ?? .nothing : action, owner: rule.owner,
        guest: rule.guest, text: rule.meaning, toDo: rule.toDo, words: rule.words, findings: [],
        deeds: []), &effects)
  }

  /// An action failed: what it was to achieve is left to a person.
  mutating func fail(_ text: String, _ effects: inout [EngineEffect]) {
    let rule = situation.flatMap { RecoveryTable.rule(for: $0) }
    conclude(
      RecoveryConclusion(
        rule: rule?.name ?? "none", action: .ask, owner: rule?.owner ?? .unknown,
        guest: rule?.guest ?? .unknown, text: text,
        toDo: "settle what stood in the way, then let recovery look again", words: [.again],
        findings: [], deeds: []), &effects)
  }

  private mutating func conclude(
    _ conclusion: RecoveryConclusion, _ effects: inout [EngineEffect]
  ) {
    self.conclusion = conclusion
    self.conclusion?.findings = [source.finding, target.finding] + options.findings
    if options.isDryRun {
      finish(&effects)
      return
    }
    plan = planForTidying(conclusion)
    deedIsBegun = false
    tidyAttempts += 1
    step = .tidying
  }

  private mutating func tidy(_ effects: inout [EngineEffect]) {
    while let deed = plan.first {
      switch advance(deed, &effects) {
      case .pending: return
      case .done: break
      case .lookAgain:
        if lookAgainAfterTidying(&effects) { return }
        effects.append(
          .warn("a monitor is lost again and again: settings may be left as they were"))
      case .failed(let text): effects.append(.warn(text))
      }
      plan.removeFirst()
      deedIsBegun = false
    }
    if source.hasChanged || target.hasChanged, lookAgainAfterTidying(&effects) { return }
    finish(&effects)
  }

  /// What was concluded may not be true any more; answers whether there is another look at it.
  private mutating func lookAgainAfterTidying(_ effects: inout [EngineEffect]) -> Bool {
    guard tidyAttempts < Self.attemptLimit else { return false }
    beginLook(&effects)
    return true
  }

  private mutating func finish(_ effects: inout [EngineEffect]) {
    conclusion?.deeds = deeds
    alarms = Alarms()
    step = .ended
    if options.journal != nil, !options.isDryRun { effects.append(.storeIntent) }
    effects.append(.finished)
  }
}

extension BlockJobReport {
  /// It has neither ended nor failed.
  var isLive: Bool {
    switch status {
    case "aborting", "concluded", "null": false
    default: true
    }
  }
}
