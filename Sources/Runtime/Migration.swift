import MigrationEngine
import MigrationSession
import Platform
import QMP

/// Why a migration cannot begin.
public enum MigrationSetupError: Error, Equatable, Sendable, CustomStringConvertible {
  case route(Side, RouteError)
  /// Only the target may be on another host: QEMU's streams begin where the library runs.
  case sourceElsewhere
  case journal(JournalError)
  /// The file holds something that is no journal, or none that this version can judge.
  case notAJournal(JournalRecordError, path: String)
  /// It is the journal of a migration that nobody has settled.
  case unsettledJournal(path: String)

  public var description: String {
    switch self {
    case .route(let side, let error): "the \(side)'s monitor cannot be reached: \(error)"
    case .sourceElsewhere:
      "the source's monitor is an ssh address: the library runs on the source's host"
    case .journal(let error): error.description
    case .notAJournal(let error, let path):
      "\(path) is not overwritten: \(RecoveryJournalError.record(error))"
    case .unsettledJournal(let path):
      "\(path) is the journal of a migration that is not settled: 'switchover recover' it, or remove "
        + "the file"
    }
  }
}

/// One migration in a loop.
public final class Migration: SessionMember<MigrationSession> {
  /// Whether the host program was asked for a hand-over that nobody told of yet; for the caller who
  /// waits for one.
  public var isHandOverWanted = false
  private var guestStands = false

  /// Looks the monitors' addresses up, which may block on a name, and locks the journal; nothing is
  /// connected yet.
  ///
  /// - Parameter journalPath: where the session's records are kept; needed where the options say that
  ///   there is a journal.
  public init(
    in loop: Loop, configuration: SessionConfiguration, journalPath: String? = nil
  ) throws(MigrationSetupError) {
    var configuration = configuration
    configuration.clockOffsetMicroseconds =
      MonotonicClock.now / 1_000 - WallClock.nowMicroseconds
    configuration.machine = MachineIdentity.current
    let forwards = try Self.forwards(configuration)
    let journal = try journalPath.map { path throws(MigrationSetupError) in
      try Self.openJournal(at: path)
    }
    let routes = try Route.all(
      to: [
        (.sourceMonitor, configuration.sourceMonitor),
        (.targetMonitor, configuration.targetMonitor),
        (.sourceOutOfBand, configuration.sourceOutOfBand),
      ], in: loop, forwards: forwards)
    if let tunnel = routes[.targetMonitor]?.tunnel { Self.use(tunnel, &configuration) }
    super.init(
      in: loop, session: MigrationSession(configuration: configuration), routes: routes,
      journal: journal)
  }

  // MARK: - Through a tunnel

  /// The sockets of the target's host that the source has to reach as well.
  private static func forwards(
    _ configuration: SessionConfiguration
  ) throws(MigrationSetupError) -> [Forward] {
    for case .ssh? in [configuration.sourceMonitor, configuration.sourceOutOfBand] {
      throw .sourceElsewhere
    }
    guard case .ssh = configuration.targetMonitor else { return [] }
    var forwards: [Forward] = []
    let prefix = "unix:"
    if configuration.options.uri.hasPrefix(prefix) {
      let path = String(configuration.options.uri.dropFirst(prefix.utf8.count))
      forwards.append(Forward(.memory, path: path))
    }
    if case .unix(let path) = configuration.options.storage.address {
      forwards.append(Forward(.storage, path: path))
    }
    return forwards
  }

  /// Leads the source's streams into the tunnel; the target is told what they are called over there.
  private static func use(_ tunnel: Tunnel, _ configuration: inout SessionConfiguration) {
    if let path = tunnel.localPath(.memory) {
      configuration.options.uriOnTarget = configuration.options.uri
      configuration.options.uri = "unix:\(path)"
    }
    if let path = tunnel.localPath(.storage) {
      configuration.options.storage.address = .unix(path: path)
    }
  }

  /// What an earlier migration has left there is replaced only if nothing is left to recover.
  private static func openJournal(at path: String) throws(MigrationSetupError) -> JournalFile {
    let file: JournalFile
    let bytes: [UInt8]
    do throws(JournalError) {
      file = try JournalFile(path: path, create: true)
      bytes = try file.read(limit: JournalRecord.maximumBytes)
    } catch {
      throw .journal(error)
    }
    guard !bytes.isEmpty else { return file }
    let record: JournalRecord
    do throws(JournalRecordError) {
      record = try JournalRecord.decode(bytes)
    } catch {
      throw .notAJournal(error, path: path)
    }
    guard record.isSettled else { throw .unsettledJournal(path: path) }
    return file
  }

  // MARK: - What is known

  public var phase: MigrationPhase { session.phase }
  /// Set when the migration has ended.
  public var conclusion: Conclusion? { session.conclusion }
  public var owner: Owner { session.owner }
  public var guest: GuestCondition { session.guest }
  public var progress: Progress { session.progress }
  public var ledger: Ledger { session.ledger }
  /// The source's last answer to `query-migrate`, as JSON text; empty before the first.
  public var sourceReport: [UInt8] { session.sourceReport.map(JSONText.encode) ?? [] }
  public var options: MigrationOptions { session.options }
  /// How far the local disks have got.
  public var disks: [DiskProgress] { session.disks }
  /// Whether a cancel would still be taken (I4).
  public var canCancel: Bool { session.canCancel }

  // MARK: - What is added

  override func willStart() {
    super.willStart()
    if let host = ClearText.host(of: session.options) {
      post(.warning("plain tcp to \(host): the guest's memory travels readable"))
    }
  }

  override func post(_ report: SessionReport) {
    if report == .handOverWanted { isHandOverWanted = true }
    super.post(report)
  }

  override func didAdvance() { setGuestStands(isBetweenHosts) }

  override func closeStreams() {
    setGuestStands(false)
    super.closeStreams()
  }

  /// Whether the guest stands for this migration's sake, so that nothing else may hold it up.
  private var isBetweenHosts: Bool {
    switch session.phase {
    case .switchingOver, .activating: true
    case .handingOver: session.options.handOver != .afterResume
    case .idle, .connecting, .preflight, .preparing, .mirroring, .transferring, .finishing,
      .undoing, .ended:
      false
    }
  }

  private func setGuestStands(_ stands: Bool) {
    guard stands != guestStands else { return }
    guestStands = stands
    loop?.guestStands(stands)
  }
}

extension Route {
  /// The ways to several streams; those without an endpoint are left out.
  static func all(
    to endpoints: [(StreamID, Endpoint?)], in loop: Loop, forwards: [Forward] = []
  ) throws(MigrationSetupError) -> [StreamID: Route] {
    var routes: [StreamID: Route] = [:]
    for (stream, endpoint) in endpoints {
      guard let endpoint else { continue }
      do throws(RouteError) {
        routes[stream] = try Route(to: endpoint, in: loop, forwards: forwards)
      } catch {
        for route in routes.values { route.tunnel?.close() }
        throw .route(stream.side, error)
      }
    }
    return routes
  }
}
