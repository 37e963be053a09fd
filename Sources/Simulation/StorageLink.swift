import MigrationEngine

/// All NBD connections from the source's QEMU to the target's, over one network.
struct StorageLink {
  enum Message {
    case opens(export: String, path: String)
    case accepted
    case refused(String)
    case request(number: Int, NBDRequest)
    case reply(number: Int, succeeded: Bool)
    case ends
  }

  let delay: Span
  var isStalled = false
  /// What is sent is taken, and never arrives.
  var vanishes = false
  /// Connections that stand, by the number that the source gave them.
  var connections: [Int] = []
  var waiting: [(connection: Int, to: Side, message: Message)] = []
  private var lastToTarget = MonotonicInstant(nanoseconds: 0)
  private var lastToSource = MonotonicInstant(nanoseconds: 0)

  init(delay: Span) { self.delay = delay }

  mutating func arrival(
    to side: Side, at now: MonotonicInstant, jitter: Span
  ) -> MonotonicInstant {
    let earliest = now + delay + jitter
    let arrival = max(side == .target ? lastToTarget : lastToSource, earliest)
    if side == .target { lastToTarget = arrival } else { lastToSource = arrival }
    return arrival
  }
}

extension World {
  func carryOut(_ effect: BlockEffect, of side: Side) {
    switch effect {
    case .connect(let connection, let path, let export):
      storageLink.connections.append(connection)
      sendBlocks(connection, to: .target, .opens(export: export, path: path))
    case .request(let connection, let number, let request):
      sendBlocks(connection, to: .target, .request(number: number, request))
    case .accept(let connection): sendBlocks(connection, to: .source, .accepted)
    case .refuse(let connection, let text): sendBlocks(connection, to: .source, .refused(text))
    case .reply(let connection, let number, let succeeded):
      sendBlocks(connection, to: .source, .reply(number: number, succeeded: succeeded))
    case .close(let connection): sendBlocks(connection, to: side.other, .ends)
    }
  }

  private func sendBlocks(_ connection: Int, to side: Side, _ message: StorageLink.Message) {
    guard storageLink.connections.contains(connection), !storageLink.vanishes else { return }
    if storageLink.isStalled {
      storageLink.waiting.append((connection, side, message))
      return
    }
    let jitter = Span(nanoseconds: random.number(in: 0...scenario.jitter.nanoseconds))
    let arrival = storageLink.arrival(to: side, at: now, jitter: jitter)
    schedule(.blocks(connection: connection, to: side, message), at: arrival)
  }

  func blocksArrived(_ connection: Int, _ side: Side, _ message: StorageLink.Message) {
    guard storageLink.connections.contains(connection), !storageLink.vanishes else { return }
    switch message {
    case .opens(let export, let path):
      if target.serverPath == path {
        give(.target, .network(.clientConnected(connection: connection, export: export)))
      } else {
        let text = "Failed to connect to '\(path)': No such file or directory"
        give(.source, .network(.refused(connection: connection, text)))
      }
    case .accepted: give(.source, .network(.connected(connection: connection)))
    case .refused(let text):
      give(.source, .network(.refused(connection: connection, text)))
    case .request(let number, let request):
      give(.target, .network(.requested(connection: connection, request: number, request)))
    case .reply(let number, let succeeded):
      give(
        .source,
        .network(.replied(connection: connection, request: number, succeeded: succeeded)))
    case .ends:
      storageLink.connections.removeAll { $0 == connection }
      give(side, .network(.ended(connection: connection)))
    }
  }

  /// A QEMU is gone: its connections end at the other.
  func endStorage(of side: Side) {
    for connection in storageLink.connections { sendBlocks(connection, to: side.other, .ends) }
  }

  /// Both ends learn that the connections are gone.
  func cutStorage() {
    let connections = storageLink.connections
    storageLink.waiting = []
    for connection in connections {
      for side in Side.allCases {
        schedule(.blocksCut(connection: connection, at: side), after: storageLink.delay)
      }
    }
    storageLink.connections = []
  }

  func endStallOfStorage() {
    storageLink.isStalled = false
    let waiting = storageLink.waiting
    storageLink.waiting = []
    for entry in waiting { sendBlocks(entry.connection, to: entry.to, entry.message) }
  }
}
