import MigrationEngine
import MigrationSession
import QMP

/// Who asked for the migration, and moves ownership in its cluster.
struct HostProgram {
  enum Wake: Hashable {
    case answers
    case connects
    case givesUp(stream: Int)
    case strangerLeaves(stream: Int)
    case reapsFenced(Side)
    /// It has resumed the target, whose guest soon stood again, and nobody noticed that it ran.
    case saysThatItResumed
  }

  /// Where the cluster believes the guest to be; nil: it does not know.
  enum Ownership: Hashable { case source, target, unknown }

  let plan: Scenario.HostPlan
  var ownership = Ownership.source
  var answer: HandOverResult?
  var isAnswering = false
  var isDead = false
  var fenced: [Side] = []
  var resumeAttempts = 0
  /// The connection on which it resumes the target by itself (`external`).
  var stream: Int?
  var received: [UInt8] = []

  init(_ plan: Scenario.HostPlan) { self.plan = plan }
}

extension World {
  func hostIsAsked() {
    guard !host.isAnswering else { return }
    host.isAnswering = true
    // It has begun: from here on ownership may move at any time.
    if host.ownership == .source { host.ownership = .unknown }
    schedule(.hostProgram(.answers), after: host.plan.delay)
  }

  func hostProgramWakes(_ wake: HostProgram.Wake) {
    if host.isDead, wake != .reapsFenced(.source), wake != .reapsFenced(.target) {
      if case .strangerLeaves(let index) = wake { closeByClient(index) }
      return
    }
    switch wake {
    case .answers: hostAnswers()
    case .connects: hostConnects()
    case .givesUp(let index):
      guard host.stream == index else { return }
      closeByClient(index)
      hostAttemptFailed()
    case .strangerLeaves(let index): closeByClient(index)
    case .saysThatItResumed:
      guard session != nil, sessionEndedAt == nil, target.isAlive, target.stands else { return }
      give(.requested(.handedOver(.done)))
    case .reapsFenced(let side):
      if !self[side].isAlive { give(.requested(.fenced(side))) }
    }
  }

  private func hostAnswers() {
    guard session != nil, sessionEndedAt == nil else { return }
    host.isAnswering = false
    var result = host.plan.result
    // A host program that asked for `afterResume` goes on until it is done.
    if scenario.options.handOver == .afterResume, hasHealed || random.chance(1, in: 2) {
      result = .done
    }
    if scenario.options.handOver == .external, result == .done, !host.plan.takesOverAtOnce {
      hostConnects()
      return
    }
    answer(result)
  }

  private func answer(_ result: HandOverResult) {
    host.answer = result
    switch result {
    case .done:
      host.ownership = .target
      observer.hostTookOver = scenario.options.handOver == .external
    case .failed: host.ownership = .source
    case .unknown: host.ownership = random.chance(1, in: 2) ? .target : .source
    }
    give(.requested(.handedOver(result)))
  }

  // MARK: - Resuming the target itself

  private func hostConnects() {
    guard sessionEndedAt == nil else { return }
    host.resumeAttempts += 1
    host.received = []
    guard target.isAlive, let index = connect(.hostProgram, to: .target) else {
      hostAttemptFailed()
      return
    }
    host.stream = index
    schedule(.hostProgram(.givesUp(stream: index)), after: .seconds(5))
  }

  private func hostAttemptFailed() {
    host.stream = nil
    if target.isAlive, host.resumeAttempts < 40 {
      schedule(.hostProgram(.connects), after: .milliseconds(200))
    } else {
      answer(.failed)
    }
  }

  func otherClientReceived(_ index: Int, _ bytes: [UInt8]) {
    guard streams[index].client == .hostProgram, host.stream == index else {
      strangerReceived(index, bytes)
      return
    }
    host.received.append(contentsOf: bytes)
    let lines = host.received.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true)
    host.received = host.received.last == UInt8(ascii: "\n") ? [] : Array(lines.last ?? [])
    for line in lines where line.last == UInt8(ascii: "\r") {
      guard let message = line.withUnsafeBytes({ try? JSONText.decode($0) }) else { continue }
      if message["QMP"] != nil {
        send(index, .toQEMU, Array(QEMUCommandName.resumption.utf8))
      } else if message["id"] == 1 {
        host.stream = nil
        closeByClient(index)
        if message["return"] != nil { hostHasResumed() } else { hostAttemptFailed() }
      }
    }
  }

  /// The session sees the guest run by itself, unless that stood again at once as it had before.
  private func hostHasResumed() {
    host.ownership = .target
    schedule(.hostProgram(.saysThatItResumed), after: .seconds(10))
  }

  func otherClientEnded(_ index: Int) {
    if host.stream == index { hostAttemptFailed() }
  }

  /// A stranger asks one question and goes.
  private func strangerReceived(_ index: Int, _ bytes: [UInt8]) {
    guard bytes.starts(with: "{\"QMP\"".utf8) else { return }
    send(index, .toQEMU, Array(QEMUCommandName.question.utf8))
  }
}
