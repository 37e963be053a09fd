import CQEMUHarness
import Glibc

/// The work of a relay's thread: one poll loop over all its connections.
struct RelayLoop: Sendable {
  /// Bytes that were read together and may go on together.
  private struct Packet {
    var bytes: ArraySlice<UInt8>
    let due: MonotonicTime
  }

  /// One direction of one connection.
  private struct Flow {
    let from: Int32
    let to: Int32
    var queue: [Packet] = []
    var queuedBytes = 0
    var end = End.open

    var mayRead: Bool { end == .open && queuedBytes < Relay.largestQueue }
    /// When there is next something to pass on, bytes or the end.
    var due: MonotonicTime? {
      if let packet = queue.first { return packet.due }
      guard case .onItsWay(let due) = end else { return nil }
      return due
    }
  }

  /// The end of one direction is on its way as long as bytes are.
  private enum End: Equatable {
    case open
    case onItsWay(MonotonicTime)
    case passedOn
  }

  private struct Connection {
    let sockets: [Int32]
    var flows: [Flow]

    init(_ accepted: Int32, _ connected: Int32) {
      sockets = [accepted, connected]
      flows = [Flow(from: accepted, to: connected), Flow(from: connected, to: accepted)]
    }

    var hasEnded: Bool { flows.allSatisfy { $0.end == .passedOn } }
  }

  private static let largestRead = 1 << 16

  private let listener: Int32
  private let wake: Int32
  private let listening: Endpoint
  private let destination: Endpoint
  private let state: Guarded<Relay.State>
  private var connections: [Connection] = []
  /// With a limited rate: the earliest moment for the next byte of each direction.
  private var nextTurn = [MonotonicTime.now, .now]
  private var buffer = [UInt8](repeating: 0, count: Self.largestRead)

  init(
    listener: Int32, wake: Int32, listening: Endpoint, destination: Endpoint,
    state: Guarded<Relay.State>
  ) {
    self.listener = listener
    self.wake = wake
    self.listening = listening
    self.destination = destination
    self.state = state
  }

  mutating func run() {
    while true {
      let state = self.state.withLock { $0 }
      if state.isClosed { break }
      for index in connections.indices { move(index, state) }
      if state.cutsWanted > state.cutsDone { cutAll() }
      removeEnded(cutsDone: state.cutsWanted)
      waitForWork(self.state.withLock { $0 })
    }
    cutAll()
    removeEnded(cutsDone: .max)
    close(listener)
  }

  /// Marks every connection as ended, with nothing left to pass on.
  private mutating func cutAll() {
    for index in connections.indices {
      for direction in connections[index].flows.indices {
        connections[index].flows[direction].queue = []
        connections[index].flows[direction].end = .passedOn
      }
    }
  }

  private mutating func removeEnded(cutsDone: Int) {
    for connection in connections where connection.hasEnded {
      for socket in connection.sockets { close(socket) }
    }
    connections.removeAll(where: \.hasEnded)
    let count = connections.count
    state.withLock { state in
      state.connections = count
      state.cutsDone = cutsDone
    }
  }

  // MARK: Waiting

  private mutating func waitForWork(_ state: Relay.State) {
    var waited = [
      pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
      pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
    ]
    var deadline: MonotonicTime?
    let now = MonotonicTime.now
    for connection in connections {
      for (index, flow) in connection.flows.enumerated() where !state.conditions[index].isStalled {
        if flow.mayRead {
          waited.append(pollfd(fd: flow.from, events: Int16(POLLIN), revents: 0))
        }
        guard let due = flow.due.map({ max($0, nextTurn[index]) }) else { continue }
        if due <= now {
          waited.append(pollfd(fd: flow.to, events: Int16(POLLOUT), revents: 0))
        } else {
          deadline = min(deadline ?? due, due)
        }
      }
    }
    let limit = deadline.map { Int64(max(0, ($0 - .now) / .nanoseconds(1))) } ?? -1
    _ = qemu_harness_poll(&waited, UInt(waited.count), limit)
    while read(wake, &buffer, buffer.count) > 0 {}
    if waited[1].revents != 0 { accept() }
  }

  private mutating func accept() {
    let accepted = qemu_harness_accept(listener)
    guard accepted >= 0 else { return }
    let connected = state.withLock({ $0.refusesConnections }) ? -1 : destination.connect()
    guard connected >= 0 else {
      close(accepted)
      return
    }
    listening.makePrompt(accepted)
    destination.makePrompt(connected)
    connections.append(Connection(accepted, connected))
  }

  // MARK: Moving

  private mutating func move(_ index: Int, _ state: Relay.State) {
    for direction in connections[index].flows.indices {
      let conditions = state.conditions[direction]
      guard !conditions.isStalled else { continue }
      readOnce(index, direction, conditions.delay)
      deliver(index, direction, conditions)
    }
  }

  private mutating func readOnce(_ index: Int, _ direction: Int, _ delay: Duration) {
    let flow = connections[index].flows[direction]
    guard flow.mayRead else { return }
    let count = recv(flow.from, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    if count < 0, errno == EAGAIN || errno == EINTR { return }
    guard count > 0 else {
      connections[index].flows[direction].end = .onItsWay(.now + delay)
      return
    }
    connections[index].flows[direction].queue.append(
      Packet(bytes: Array(buffer[..<count])[...], due: .now + delay))
    connections[index].flows[direction].queuedBytes += count
  }

  /// Passes on what is due.
  private mutating func deliver(_ index: Int, _ direction: Int, _ conditions: Relay.Conditions) {
    while let packet = connections[index].flows[direction].queue.first {
      guard max(packet.due, nextTurn[direction]) <= .now else { return }
      var allowed = packet.bytes.count
      if let rate = conditions.bytesPerSecond { allowed = min(allowed, max(1, rate / 100)) }
      if let limit = conditions.cutAfterBytes {
        allowed = min(allowed, limit - state.withLock { $0.passed[direction] })
        guard allowed > 0 else { return cutAtLimit(direction) }
      }
      let socket = connections[index].flows[direction].to
      // Sent and counted in one: who has received a byte also finds it counted.
      let (count, code) = state.withLock { state in
        let count = packet.bytes.withUnsafeBytes {
          send(socket, $0.baseAddress, allowed, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        }
        state.passed[direction] += max(0, count)
        return (count, errno)
      }
      guard count > 0 else {
        if count < 0, code == EAGAIN || code == EINTR { return }
        // Nobody listens any more: what was on its way is lost.
        connections[index].flows[direction].queue = []
        connections[index].flows[direction].end = .passedOn
        return
      }
      account(index, direction, count, conditions)
    }
    if case .onItsWay(let due) = connections[index].flows[direction].end, due <= .now {
      shutdown(connections[index].flows[direction].to, Int32(SHUT_WR))
      connections[index].flows[direction].end = .passedOn
    }
  }

  private mutating func cutAtLimit(_ direction: Int) {
    cutAll()
    state.withLock { $0.conditions[direction].cutAfterBytes = nil }
  }

  private mutating func account(
    _ index: Int, _ direction: Int, _ count: Int, _ conditions: Relay.Conditions
  ) {
    connections[index].flows[direction].queuedBytes -= count
    if connections[index].flows[direction].queue[0].bytes.count == count {
      connections[index].flows[direction].queue.removeFirst()
    } else {
      connections[index].flows[direction].queue[0].bytes.removeFirst(count)
    }
    if let rate = conditions.bytesPerSecond {
      nextTurn[direction] =
        max(nextTurn[direction], .now) + .nanoseconds(count * 1_000_000_000 / max(1, rate))
    }
    guard let limit = conditions.cutAfterBytes else { return }
    if state.withLock({ $0.passed[direction] }) >= limit { cutAtLimit(direction) }
  }
}
