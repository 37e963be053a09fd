/// One step of an action of recovery, or of putting things in order after it.
enum RecoveryDeed: Hashable, Sendable {
  case stopOutsideWriters
  case resumeTarget
  case cancelMigration
  /// `stop`, and a look that it stands.
  case holdTarget
  case quit(Side)
  case endMirrors(takenOverToo: Bool)
  case resumeSource
  case restore(Side)
}

/// How far a deed has come.
enum RecoveryProgress: Hashable, Sendable {
  case pending
  case done
  /// Its outcome is unknown, or what it rests on has changed.
  case lookAgain
  case failed(String)
}

extension RecoveryEngine {
  /// How long one deed may take.
  static let deedLimit = Span.seconds(60)
  /// How long a QEMU may take to end after `quit`.
  static let quitLimit = Span.seconds(15)
  /// How long mirrors may take to end, with a yank in between.
  static let mirrorLimit = Span.seconds(15)
  static let mirrorInterval = Span.milliseconds(50)

  func plan(for action: RecoveryAction) -> [RecoveryDeed] {
    switch action {
    // A cancel ends the target's QEMU, and its NBD server with it: mirrors end before they break.
    case .cancelMigration: return [.endMirrors(takenOverToo: false), .cancelMigration]
    case .resumeTarget:
      return mayHaveOutsideWriters ? [.stopOutsideWriters, .resumeTarget] : [.resumeTarget]
    case .endTargetThenResumeSource: return [.holdTarget, .quit(.target)]
    case .resumeSource: return [.endMirrors(takenOverToo: true), .resumeSource]
    case .quitSource: return [.endMirrors(takenOverToo: true), .quit(.source)]
    case .nothing, .wait, .ask: return []
    }
  }

  /// What is put in order once nothing more happens to the guest.
  func planForTidying(_ conclusion: RecoveryConclusion) -> [RecoveryDeed] {
    var plan: [RecoveryDeed] = []
    switch (conclusion.owner, situation?.source) {
    case (.source, .runs), (.source, .stands), (.source, .off):
      plan.append(.endMirrors(takenOverToo: false))
    case (.target, .completed) where situation?.target == .runs:
      plan.append(.endMirrors(takenOverToo: true))
    default:
      break
    }
    for side in Side.allCases
    where self[side].takesSettings && !options[side].restoringCommands.isEmpty {
      plan.append(.restore(side))
    }
    return plan
  }

  /// Without a journal nobody knows whether disks were mirrored.
  private var mayHaveOutsideWriters: Bool {
    options.journal.map { !$0.mirrors.isEmpty } ?? true
  }

  mutating func act(_ effects: inout [EngineEffect]) {
    while let deed = plan.first {
      switch advance(deed, &effects) {
      case .pending:
        return
      case .done:
        plan.removeFirst()
        deedIsBegun = false
        if deed == .cancelMigration {
          settle()
          return
        }
      case .lookAgain:
        // What changed before the deed was begun is no failed attempt.
        if !deedIsBegun, let lastAct { attempts[lastAct, default: 1] -= 1 }
        plan = []
      case .failed(let text):
        fail(text, &effects)
        return
      }
    }
    beginLook(&effects)
  }

  mutating func advance(
    _ deed: RecoveryDeed, _ effects: inout [EngineEffect]
  ) -> RecoveryProgress {
    if !deedIsBegun {
      // A deed rests on the last look.
      guard self[deed.side].isConnected, !source.hasChanged, !target.hasChanged else {
        return .lookAgain
      }
      deedIsBegun = true
      replies = [:]
      alarms.set(.step, now + Self.deedLimit)
      begin(deed, &effects)
    }
    var progress = progress(of: deed, &effects)
    if progress == .pending, alarms.takeDue(.step, at: now) {
      progress = .failed("\(deed.words) took too long")
    }
    if progress != .pending {
      for alarm in [Alarms.Kind.step, .poll, .yank] { alarms.clear(alarm) }
    }
    return progress
  }

  private mutating func begin(_ deed: RecoveryDeed, _ effects: inout [EngineEffect]) {
    switch deed {
    case .stopOutsideWriters:
      ask(.nbdServerStop, .target, &effects)
    case .resumeTarget:
      hasGranted = true
      targetIsKnownUnrun = false
      ask(.cont, .target, &effects)
    case .cancelMigration:
      ask(.migrateCancel, .source, &effects)
    case .holdTarget:
      ask(.stop, .target, &effects)
      ask(.queryStatus, .target, &effects)
    case .quit(let side):
      alarms.set(.step, now + Self.quitLimit)
      ask(.quit, side, &effects)
    case .endMirrors(let takenOverToo):
      alarms.set(.step, now + Self.mirrorLimit)
      beginEndingMirrors(takenOverToo: takenOverToo, &effects)
    case .resumeSource:
      ask(.cont, .source, &effects)
      // The target's load announced the guest's address from the wrong host.
      ask(.announceSelf, .source, &effects)
    case .restore(let side):
      for command in options[side].restoringCommands { ask(command, side, &effects) }
    }
  }

  private mutating func progress(
    of deed: RecoveryDeed, _ effects: inout [EngineEffect]
  ) -> RecoveryProgress {
    switch deed {
    case .stopOutsideWriters: return progressOfStoppingWriters()
    case .resumeTarget: return progressOfResuming(.target)
    case .resumeSource: return progressOfResuming(.source)
    case .cancelMigration:
      guard replies[.migrateCancel] != nil else { return .pending }
      note("cancelled the migration on the source")
      return .done
    case .holdTarget: return progressOfHolding()
    case .quit(let side): return progressOfQuitting(side, &effects)
    case .endMirrors: return progressOfEndingMirrors(&effects)
    case .restore(let side): return progressOfRestoring(side, &effects)
    }
  }

  // MARK: - The target

  /// A server that does not run has no writers (I3).
  private mutating func progressOfStoppingWriters() -> RecoveryProgress {
    switch replies[.nbdServerStop] {
    case nil:
      return .pending
    case .lost:
      return .lookAgain
    case .answered:
      note("stopped the target's NBD server")
      return .done
    case .refused(let refusal):
      if refusal.text.contains("not running") { return .done }
      return .failed(
        "target refused 'nbd-server-stop': \(refusal.text); an outside writer may still reach its "
          + "disks (I3)")
    }
  }

  private mutating func progressOfResuming(_ side: Side) -> RecoveryProgress {
    switch replies[.cont] {
    case nil:
      return .pending
    case .lost:
      return .lookAgain
    case .answered:
      note("resumed the guest on the \(side)")
      return .done
    case .refused(let refusal):
      let hint =
        refusal.text.contains("lock") ? " (image still open on the \(side.other)?)" : ""
      return .failed("\(side) refused 'cont': \(refusal.text)\(hint)")
    }
  }

  /// It stood when we looked; somebody with another way to it may have resumed it since.
  private func progressOfHolding() -> RecoveryProgress {
    guard replies[.stop] != nil, replies[.queryStatus] != nil else { return .pending }
    guard case .answered = replies[.stop], !target.hasChanged else { return .lookAgain }
    return target.runState == .paused || target.runState == .inmigrate ? .done : .lookAgain
  }

  /// Its end counts as proof only where it took `quit`, or the kernel says that it is gone.
  private mutating func progressOfQuitting(
    _ side: Side, _ effects: inout [EngineEffect]
  ) -> RecoveryProgress {
    if case .refused(let refusal) = replies[.quit] {
      return .failed("\(side) refused 'quit': \(refusal.text)")
    }
    guard !self[side].isConnected, let reply = replies[.quit] else { return .pending }
    if case .answered = reply { self[side].hasQuit = true }
    guard self[side].hasQuit || self[side].hasExited else { return .lookAgain }
    letGo(of: side, &effects)
    note("ended the \(side)'s QEMU")
    return .done
  }

  // MARK: - The source

  private mutating func beginEndingMirrors(
    takenOverToo: Bool, _ effects: inout [EngineEffect]
  ) {
    mirrorEnding = MirrorEnding(
      journal: options.journal?.mirrors, jobs: source.jobs ?? [], takenOverToo: takenOverToo)
    guard !mirrorEnding.isEmpty else { return }
    alarms.set(.yank, now + options.yankLimit)
    continueEndingMirrors(&effects)
  }

  private mutating func continueEndingMirrors(_ effects: inout [EngineEffect]) {
    let commands = mirrorEnding.nextCommands(
      source.jobs, guestStandsForGood: situation?.source == .completed, release: source.release)
    for command in commands { ask(command, .source, &effects) }
    ask(.queryBlockJobs, .source, &effects)
  }

  private mutating func progressOfEndingMirrors(
    _ effects: inout [EngineEffect]
  ) -> RecoveryProgress {
    guard source.isConnected, !mirrorEnding.isEmpty else { return .done }
    yankIfDue(&effects)
    guard awaited.isEmpty(.source) else { return .pending }
    if mirrorEnding.isOver(source.jobs) {
      note("ended the mirrors on the source: \(mirrorEnding.names)")
      return .done
    }
    if alarms.takeDue(.poll, at: now) {
      continueEndingMirrors(&effects)
    } else if !alarms.isSet(.poll) {
      alarms.set(.poll, now + Self.mirrorInterval)
    }
    return .pending
  }

  /// Mirrors that do not end hang on their connection: break it. Out of band where that is possible, for
  /// in band QEMU may not answer while it waits for that connection.
  private mutating func yankIfDue(_ effects: inout [EngineEffect]) {
    guard alarms.takeDue(.yank, at: now) else { return }
    let nodes = mirrorEnding.nodes(of: source.jobs)
    guard !nodes.isEmpty else { return }
    effects.append(
      .warn(
        "the mirrors do not end: breaking the NBD connections of \(nodes.joined(separator: ", "))"))
    if outOfBandIsReady {
      effects.append(.sendOutOfBand(.yank(nodes: nodes), to: .source))
    } else {
      ask(.yank(nodes: nodes), .source, &effects)
    }
  }

  private mutating func progressOfRestoring(
    _ side: Side, _ effects: inout [EngineEffect]
  ) -> RecoveryProgress {
    let commands = options[side].restoringCommands
    guard commands.allSatisfy({ replies[$0] != nil }) else { return .pending }
    for command in commands {
      switch replies[command] {
      case .refused(let refusal):
        effects.append(.warn("\(side) refused '\(command.qmpName)': \(refusal.text)"))
      case .lost:
        return .lookAgain
      case .answered, nil:
        break
      }
    }
    note("put the migration settings of the \(side) back")
    return .done
  }
}

extension RecoveryDeed {
  /// Whose monitor it needs.
  fileprivate var side: Side {
    switch self {
    case .stopOutsideWriters, .resumeTarget, .holdTarget: .target
    case .cancelMigration, .endMirrors, .resumeSource: .source
    case .quit(let side), .restore(let side): side
    }
  }

  /// For a text that says what took too long.
  fileprivate var words: String {
    switch self {
    case .stopOutsideWriters: "'nbd-server-stop' on the target"
    case .resumeTarget: "'cont' on the target"
    case .cancelMigration: "'migrate_cancel' on the source"
    case .holdTarget: "'stop' on the target"
    case .quit(let side): "the end of the \(side)'s QEMU after 'quit'"
    case .endMirrors: "the end of the source's mirrors"
    case .resumeSource: "'cont' on the source"
    case .restore(let side): "putting the settings of the \(side) back"
    }
  }
}

/// The mirrors that recovery ends, and how far each has come.
///
/// They are ended as the migration itself ends them: in sync where they are ready, by force only where
/// the guest stands for good or the copy is made in the background, and else by breaking their
/// connection. Forced under write load, a write-blocking mirror corrupts QEMU's heap.
struct MirrorEnding: Sendable {
  private struct Mirror: Hashable {
    var jobID: String
    var node: String?
    /// The node is ours to remove.
    var removesNode: Bool
  }

  private var mirrors: [Mirror] = []
  private var toldToEnd: [String] = []
  private var removed: [String] = []

  init() {}

  /// Without a journal those of the source's jobs count that bear our names.
  init(journal: [RecoveryOptions.Mirror]?, jobs: [BlockJobReport], takenOverToo: Bool) {
    if let journal {
      mirrors = journal.filter { $0.isOurs || takenOverToo }.map {
        Mirror(jobID: $0.jobID, node: $0.node, removesNode: $0.isOurs)
      }
    } else {
      for index in 0..<StorageOptions.maximumDisks
      where jobs.contains(where: { $0.id == MirrorNames.job(index) }) {
        mirrors.append(
          Mirror(
            jobID: MirrorNames.job(index), node: MirrorNames.node(index), removesNode: true))
      }
    }
  }

  var isEmpty: Bool { mirrors.isEmpty }
  var names: String { mirrors.map(\.jobID).joined(separator: ", ") }

  /// The nodes of the mirrors that have not ended.
  func nodes(of jobs: [BlockJobReport]?) -> [String] {
    mirrors.filter { mirror in
      jobs?.contains { $0.id == mirror.jobID && $0.status != "concluded" } ?? true
    }.compactMap(\.node)
  }

  /// Whether no job is left and no node of ours.
  func isOver(_ jobs: [BlockJobReport]?) -> Bool {
    mirrors.allSatisfy { mirror in
      guard let jobs, !jobs.contains(where: { $0.id == mirror.jobID }) else { return false }
      guard mirror.removesNode, let node = mirror.node else { return true }
      return removed.contains(node)
    }
  }

  /// What each mirror needs next: to be told to end, to be dismissed, or to lose its node.
  mutating func nextCommands(
    _ jobs: [BlockJobReport]?, guestStandsForGood: Bool, release: QEMURelease?
  ) -> [Command] {
    guard let jobs else { return [] }
    // Ours copy in the background until they are ready, where QEMU can change that afterwards.
    let copiesInBackground = release.map { $0 >= QEMURelease(8, 2) } ?? false
    var commands: [Command] = []
    for mirror in mirrors {
      if let job = jobs.first(where: { $0.id == mirror.jobID }) {
        if job.status == "concluded" {
          commands.append(.jobDismiss(job: mirror.jobID))
        } else if !toldToEnd.contains(mirror.jobID) {
          toldToEnd.append(mirror.jobID)
          if let node = mirror.node, !guestStandsForGood, !job.isReady, !copiesInBackground {
            commands.append(.yank(nodes: [node]))
          } else {
            let isForced = guestStandsForGood || !job.isReady
            commands.append(.blockJobCancel(job: mirror.jobID, force: isForced))
          }
        }
      } else if mirror.removesNode, let node = mirror.node, !removed.contains(node) {
        removed.append(node)
        commands.append(.blockdevDel(node: node))
      }
    }
    return commands
  }
}
