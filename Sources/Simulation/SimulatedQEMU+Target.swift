import MigrationEngine
import QMP

// The receiving side.

extension SimulatedQEMU {
  /// Whether a migration connection to this address finds it listening.
  public func listens(at address: String) -> Bool {
    isAlive && incoming.stage == .listening && incoming.address == address
  }

  /// What the system says of a connection that cannot be made.
  func listensNot(at address: String) -> String {
    incoming.address == address ? "Connection refused" : "No such file or directory"
  }

  func migrateIncoming(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let address = try arguments.optionalString("uri")
    _ = try arguments.optionalBool("exit-on-error")
    try arguments.finish()
    guard configuration.incoming != .none, runState == .inmigrate else {
      throw .generic("'-incoming' was not specified on the command line")
    }
    guard configuration.incoming == .deferred, !incoming.wasAsked, let address else {
      throw .generic("The incoming migration has already been started")
    }
    incoming.wasAsked = true
    incoming.stage = .listening
    incoming.address = address
    emitMigration("setup")
  }

  /// Somebody has connected to the address that it listens at.
  func migrationAccepted() {
    guard incoming.stage == .listening else { return }
    incoming.stage = .receiving
    emitMigration("active")
  }

  func migrationArrived(_ message: MigrationMessage) {
    switch message {
    case .header(let memoryBytes, let wantsReturnPath):
      guard incoming.stage == .receiving else { return }
      incoming.hasReturnPath = wantsReturnPath
      if memoryBytes != configuration.memoryBytes { loadFailed() }
    case .memory: break
    case .devices(let names):
      guard incoming.stage == .receiving else { return }
      // It notices at once, while the source may still be writing.
      if !names.allSatisfy(configuration.devices.contains) {
        wake(.unloadable, after: .microseconds(60))
      }
    case .state(let state):
      guard incoming.stage == .receiving else { return }
      incoming.stage = .loading
      incoming.state = state
      // The load runs in the main loop.
      keepMainLoopBusy(for: configuration.timing.load)
      wake(.loaded, after: configuration.timing.load)
    case .loaded(let isLoaded):
      acknowledged(isLoaded)
    }
  }

  func migrationEnded() {
    switch incoming.stage {
    case .receiving: loadFailed()
    case .none: outgoingEnded()
    default: break
    }
  }

  func loadFailed() {
    guard incoming.stage == .receiving || incoming.stage == .loading else { return }
    incoming.stage = .failed
    emitMigration("failed")
    if incoming.hasReturnPath { effects.append(.sendMigration(.loaded(false), bytes: 8)) }
    exit(status: 1)
  }

  func loaded() {
    guard incoming.stage == .loading, let state = incoming.state else { return }
    incoming.stage = .loaded
    guest = state.guest
    let mayRun = activateAfterLoad(travelled: state.runState)
    if isArmed && mayRun && state.runState == .running {
      resume()
    } else {
      runState = state.runState == .running ? .paused : state.runState
    }
    emitMigration("completed")
    if incoming.hasReturnPath { effects.append(.sendMigration(.loaded(true), bytes: 8)) }
    effects.append(.closeMigration)
  }

  /// 7.2 takes the disks at the end of the load unless it is told to be late; 10.0 always is.
  /// Answers whether the guest may run.
  private func activateAfterLoad(travelled: QEMURunState) -> Bool {
    let isLate = configuration.release == .qemu100 || isOn("late-block-activate")
    guard !isLate || (isArmed && travelled == .running) else { return true }
    do throws(QMPCommandError) {
      try activateDisks()
      return true
    } catch {
      isArmed = false
      return false
    }
  }
}
