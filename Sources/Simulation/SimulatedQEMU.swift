import MigrationEngine
import QMP

/// One QEMU as a state machine without a clock: what reaches it goes in, what it does comes out.
///
/// It behaves as QEMU 7.2 or 10.0 was measured to behave, in QEMU's own words on the wire, and the
/// same scripts are run against the real ones to hold it to that. It reads no clock: every input
/// carries the instant, and what is to happen later is asked for with `wake`.
public final class SimulatedQEMU {
  /// Something that reaches a QEMU.
  public enum Input: Sendable {
    /// A client's `connect` has succeeded; it waits until the monitor is free.
    case clientConnected(client: Int, monitor: Int)
    case clientSent(client: Int, [UInt8])
    case clientLeft(client: Int)
    case woken(Timer)
    /// The migration connection stands; it was asked for with `connectMigration`.
    case migrationConnected
    /// It does not; the text is the system's.
    case migrationRefused(String)
    /// What was sent last is in the system's buffers.
    case migrationFlushed
    /// Somebody has connected to where it listens for a migration.
    case migrationAccepted
    case migrationArrived(MigrationMessage)
    /// Reset by peer, or end of file.
    case migrationEnded
    case guest(SimulatedGuest.Act)
    /// The guest writes somewhere.
    case guestWrites
    /// A command through another monitor than those that are simulated, as its owner sends it.
    case ownerCommand(String, JSONObject)
    /// SIGKILL, or the end of its host.
    case killed
    case network(BlockInput)
  }

  /// Something that a QEMU does.
  public enum Effect: Sendable {
    case send(client: Int, [UInt8])
    case wake(Timer, MonotonicInstant)
    case connectMigration(address: String)
    /// `bytes` is what it weighs on the link.
    case sendMigration(MigrationMessage, bytes: UInt64)
    case closeMigration
    /// All of its sockets are closed: end of file for everybody, what was sent before first.
    case socketsClosed
    case exited(status: Int32)
    /// A command was carried out, or refused; for observers. The client is nil for the owner's.
    case carriedOut(String, JSONObject, client: Int?, refused: Bool)
    case network(BlockEffect)
  }

  /// What a QEMU wants to be woken for.
  public enum Timer: Hashable, Sendable {
    case commands
    case accept(monitor: Int)
    case migration(generation: Int, step: Int)
    case loaded
    /// A section arrived that belongs to no device.
    case unloadable
    case exit
    case job(Int)
  }

  public let side: Side
  public let configuration: QEMUConfiguration
  let storage: SimulatedStorage
  var now = MonotonicInstant(nanoseconds: 0)
  var effects: [Effect] = []
  var random: RandomSource

  // What observers ask.
  public internal(set) var runState: QEMURunState
  public internal(set) var isAlive = true
  /// Whether it would run by itself when a migration has loaded.
  public internal(set) var isArmed: Bool
  public internal(set) var guest: SimulatedGuest
  /// Whether its guest has powered off, or died with it.
  public internal(set) var guestIsOff = false
  public internal(set) var outgoing = OutgoingMigration()
  public internal(set) var incoming: IncomingMigration
  public internal(set) var capabilities: [(name: String, isOn: Bool)]
  public internal(set) var parameters: JSONObject
  var blocks: BlockLayer

  // The main loop and who waits for it.
  var monitors: [SimulatedMonitor]
  var commands: [QueuedCommand] = []
  /// What a client sent before it was accepted.
  var earlyBytes: [(client: Int, bytes: [UInt8])] = []
  /// Until then the monitors' input is being read.
  var monitorReadyAt = MonotonicInstant(nanoseconds: 0)
  /// The migration thread holds the big lock: in-band QMP is dead.
  public internal(set) var isHeldByMigration = false
  /// The main loop waits for the block layer.
  public internal(set) var isHeldByBlocks = false
  var busyUntil = MonotonicInstant(nanoseconds: 0)
  /// It is on its way out, and will never get there.
  public internal(set) var hangs = false
  /// A command that is not finished yet, such as `blockdev-add` of a node that connects.
  var isDispatching = false
  private var nextWake: MonotonicInstant?
  var isCalm = false

  public init(
    side: Side, configuration: QEMUConfiguration, storage: SimulatedStorage, random: RandomSource
  ) {
    self.side = side
    self.configuration = configuration
    self.storage = storage
    self.random = random
    isArmed = !configuration.startsPaused
    capabilities = QEMUVocabulary.capabilities(of: configuration.release)
    parameters = QEMUVocabulary.parameters(of: configuration.release)
    monitors = (0..<configuration.monitors).map { _ in SimulatedMonitor() }
    incoming = IncomingMigration(configuration.incoming)
    guest = SimulatedGuest(
      diskSizes: configuration.disks.map { storage.disks[$0.disk].sectors.count })
    blocks = BlockLayer(
      configuration.disks, sizes: configuration.disks.map { storage.disks[$0.disk].sectors.count })
    if configuration.incoming == .none {
      runState = configuration.startsPaused ? .prelaunch : .running
      blocks.isActive = true
      for disk in configuration.disks { _ = storage.lock(disk.disk, for: side) }
    } else {
      runState = .inmigrate
    }
  }

  /// Takes one input; answers with what is to be done about it, in order.
  public func handle(_ input: Input, at instant: MonotonicInstant) -> [Effect] {
    now = instant
    guard isAlive || isExit(input) else { return [] }
    switch input {
    case .clientConnected(let client, let monitor): clientConnected(client, monitor)
    case .clientSent(let client, let bytes): clientSent(client, bytes)
    case .clientLeft(let client): clientLeft(client)
    case .woken(let timer): woken(timer)
    case .migrationConnected: migrationConnected()
    case .migrationRefused(let text): migrationRefused(text)
    case .migrationFlushed: migrationFlushed()
    case .migrationAccepted: migrationAccepted()
    case .migrationArrived(let message): migrationArrived(message)
    case .migrationEnded: migrationEnded()
    case .guest(let act): guestActed(act)
    case .guestWrites: guestWrites()
    case .ownerCommand(let name, let arguments): ownerCommand(name, arguments)
    case .killed: exit(status: 137)
    case .network(let input): network(input)
    }
    dispatchCommands()
    defer { effects.removeAll(keepingCapacity: true) }
    return effects
  }

  private func isExit(_ input: Input) -> Bool {
    if case .woken(.exit) = input { return true }
    return false
  }

  /// How many connections a monitor has, the waiting ones included.
  public func clients(ofMonitor index: Int) -> Int {
    (monitors[index].client == nil ? 0 : 1) + monitors[index].waiting.count
  }

  // MARK: - Time

  func isMainLoopFree() -> Bool {
    isAlive && !hangs && !isHeldByMigration && !isHeldByBlocks && busyUntil <= now
  }

  func wake(_ timer: Timer, after span: Span) { effects.append(.wake(timer, now + span)) }

  /// The main loop does something long.
  func keepMainLoopBusy(for span: Span) {
    busyUntil = max(busyUntil, now + span)
    wake(.commands, after: span)
  }

  private func woken(_ timer: Timer) {
    switch timer {
    case .commands: nextWake = nil
    case .accept(let monitor): monitors[monitor].wantsAccept = true
    case .migration(let generation, let step):
      if generation == outgoing.generation { migrationStep(step) }
    case .loaded: loaded()
    case .unloadable: loadFailed()
    case .exit: effects.append(.exited(status: exitStatus))
    case .job(let number): jobStep(number)
    }
  }

  func wakeForCommands(at instant: MonotonicInstant) {
    if let nextWake, nextWake <= instant, nextWake > now { return }
    nextWake = instant
    effects.append(.wake(.commands, instant))
  }

  // MARK: - Run state

  public var isRunning: Bool { isAlive && runState == .running }

  /// Whether its guest stands for a reason of its own, not for the migration.
  var stands: Bool {
    switch runState {
    case .paused, .ioError, .guestPanicked, .shutdown: true
    default: false
    }
  }

  func resume() {
    runState = .running
    emit("RESUME")
  }

  /// `vm_stop`: nothing happens to a guest that does not run.
  func stop(_ state: QEMURunState) {
    guard runState == .running else { return }
    runState = state
    emit("STOP")
  }

  /// The guest dirties no more memory, so that every migration converges.
  func calmGuest() { isCalm = true }

  // MARK: - Events

  func emit(_ name: String, _ data: JSONObject? = nil) {
    guard isAlive else { return }
    var bytes: [UInt8]?
    for monitor in monitors {
      guard let client = monitor.client, monitor.isNegotiated else { continue }
      let line = bytes ?? eventLine(name, data)
      bytes = line
      effects.append(.send(client: client, line))
    }
  }

  private func eventLine(_ name: String, _ data: JSONObject?) -> [UInt8] {
    let wall = configuration.wallClockMicroseconds + now.nanoseconds / 1_000
    var event: JSONObject = [
      "timestamp": [
        "seconds": .integer(wall / 1_000_000), "microseconds": .integer(wall % 1_000_000),
      ],
      "event": .string(name),
    ]
    if let data { event["data"] = .object(data) }
    return QEMUText.line(event)
  }

  // MARK: - The end

  /// It was told to quit, or its guest to end.
  var endedInOrder: Bool { status == 0 }
  private var exitStatus: Int32 { status ?? 0 }
  private var status: Int32?

  /// Its sockets close now, its process ends a moment later.
  func exit(status: Int32) {
    guard isAlive else { return }
    isAlive = false
    self.status = status
    if runState != .inmigrate { guestIsOff = true }
    outgoing.generation += 1
    commands = []
    for disk in configuration.disks { storage.unlock(disk.disk, by: side) }
    effects.append(.socketsClosed)
    wake(.exit, after: configuration.timing.exit)
  }
}

/// QEMU's run states, in its own words.
public enum QEMURunState: String, Sendable {
  case running, paused, inmigrate, prelaunch, postmigrate, shutdown, suspended
  case finishMigrate = "finish-migrate"
  case ioError = "io-error"
  case guestPanicked = "guest-panicked"
}
