import MigrationEngine
import MigrationSession

/// Other programs at the source's only monitor: each asks something now and then, and gives up when it is
/// not served within five seconds.
struct OtherClients {
  /// After this long a tool of such a stack reports a timeout.
  static let patience = Span.seconds(5)

  struct Client {
    var stream: Int?
    var since: MonotonicInstant
    /// When it came into the listener's queue.
    var queuedSince = MonotonicInstant(nanoseconds: 0)
    var received: [UInt8] = []
    /// It has its answer, and stays for a while.
    var isServed = false
  }

  enum Wake: Hashable {
    case asks(Int)
    /// It has waited in `connect` for as long as it does.
    case givesUp(Int, since: MonotonicInstant)
    case leaves(Int)
  }

  var clients: [Client] = []
  /// Those who wait in `connect`, for the listener's queue is full.
  var blocked: [Int] = []
  /// From its first attempt to its answer, one for each question.
  var waits: [Span] = []
  /// How long the first in the queue stood there, and the session could have left, before it left; and
  /// what was left to send then.
  var givenWay: [(after: Span, remainingBytes: UInt64)] = []
  var timeouts = 0
  var hasKept = false
}

extension World {
  func otherClientsBegin() {
    let plan = scenario.others
    for index in 0..<plan.count {
      others.clients.append(OtherClients.Client(since: now))
      let offset = random.number(in: 0...plan.interval.nanoseconds)
      schedule(.otherClient(.asks(index)), after: Span(nanoseconds: offset))
    }
  }

  func otherClientWakes(_ wake: OtherClients.Wake) {
    switch wake {
    case .asks(let index):
      schedule(.otherClient(.asks(index)), after: scenario.others.interval)
      let client = others.clients[index]
      if client.stream != nil || others.blocked.contains(index) || !source.isAlive { return }
      others.clients[index].since = now
      others.blocked.append(index)
      schedule(.otherClient(.givesUp(index, since: now)), after: OtherClients.patience)
      letBlockedClientsIn()
    case .givesUp(let index, let since):
      guard others.clients[index].since == since, others.blocked.contains(index) else { return }
      others.blocked.removeAll { $0 == index }
      others.timeouts += 1
    case .leaves(let index):
      guard let stream = others.clients[index].stream else { return }
      others.clients[index].stream = nil
      others.clients[index].isServed = false
      closeByClient(stream)
    }
  }

  /// Who waits in `connect` comes first as soon as the queue has room.
  func letBlockedClientsIn() {
    guard let index = others.blocked.first, source.takesClient(ofMonitor: 0) else { return }
    others.blocked.removeFirst()
    others.clients[index].stream = connect(.other(index), to: .source)
    others.clients[index].queuedSince = now
    others.clients[index].received = []
  }

  func otherClientReceived(_ index: Int, at stream: Int, _ bytes: [UInt8]) {
    guard others.clients[index].stream == stream, !others.clients[index].isServed else { return }
    others.clients[index].received += bytes
    let lines = others.clients[index].received.count { $0 == UInt8(ascii: "\n") }
    if lines == 1, bytes.last == UInt8(ascii: "\n") {
      send(stream, .toQEMU, Array(QEMUCommandName.question.utf8))
    }
    // The greeting and two replies.
    guard lines >= 3 else { return }
    let wait = now - others.clients[index].since
    others.waits.append(wait)
    if wait >= OtherClients.patience { others.timeouts += 1 }
    others.clients[index].isServed = true
    let isKeeper = index == 0 && scenario.others.keepsFor > .zero && !others.hasKept
    if isKeeper, source.outgoing.status == .active {
      others.hasKept = true
      schedule(.otherClient(.leaves(index)), after: scenario.others.keepsFor)
    } else {
      otherClientWakes(.leaves(index))
    }
  }

  func otherClientEnded(_ index: Int, at stream: Int) {
    guard others.clients[index].stream == stream else { return }
    others.clients[index].stream = nil
    others.clients[index].isServed = false
  }

  /// How many stand in the queue of the source's monitor, as the kernel tells the session's driver.
  func sessionCounts(_ stream: StreamID) {
    guard session != nil, sessionEndedAt == nil else { return }
    let count = self[stream.side].monitors[0].waiting.count
    give(.clientsCounted(stream, scenario.others.canBeCounted ? count : nil))
  }

  /// The session lets go of the source's monitor: how long after it could have?
  func noteGivenWay() {
    guard let first = source.monitors[0].waiting.first,
      case .other(let index) = streams[first].client, source.outgoing.status == .active,
      let attached = sourceAttachedAt
    else { return }
    let since = max(others.clients[index].queuedSince, attached + .milliseconds(250))
    others.givenWay.append((now - since, source.outgoing.remaining))
  }

  /// The guest stands, and nobody sees to it: the session has let go of the monitor.
  func lookForUnattendedGuest() {
    guard let left = leftSourceAt, sessionEndedAt == nil, source.isAlive else { return }
    switch source.outgoing.status {
    case .preSwitchover, .device, .completed:
      guard let stopped = source.outgoing.stoppedAt, stopped >= left else { return }
      observer.violate(.guestIsAttended, "the guest stands while the session is away", at: now)
    default: break
    }
  }
}
