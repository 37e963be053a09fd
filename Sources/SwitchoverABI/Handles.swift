import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

/// Behind `swo_loop`.
final class LoopHandle {
  let loop: Loop

  init(_ loop: Loop) { self.loop = loop }

  deinit { loop.close() }
}

/// Behind `swo_migration`.
final class MigrationHandle {
  private weak var owner: Loop?
  /// What the setters collect until the start.
  var draft = MigrationDraft()
  /// There from the start on.
  private(set) var migration: Migration?

  let failureCommand = OwnedText()
  let failureClass = OwnedText()
  let failureText = OwnedText()
  let nextStep = OwnedText()
  let summary = OwnedText()
  let report = OwnedText()
  private var ledgerNames: [OwnedText] = []
  private var diskNames: [OwnedText] = []

  init(in loop: Loop) { owner = loop }

  deinit { migration?.close() }

  /// The loop, unless this is a fork or the loop is gone.
  func loop() throws(CallFailure) -> Loop {
    guard let owner else { throw .closed }
    if owner.isForeign { throw .forked }
    return owner
  }

  /// The migration, once it is started.
  func started() throws(CallFailure) -> Migration {
    _ = try loop()
    guard let migration else { throw .state("the migration is not started") }
    return migration
  }

  func begin(_ migration: Migration) {
    self.migration = migration
    migration.handle = self
  }

  /// The disks, before the start as they were added.
  var disks: [(device: String, copiedBytes: UInt64, totalBytes: UInt64)] {
    if let migration {
      return migration.disks.map { ($0.device, $0.copiedBytes, $0.totalBytes) }
    }
    return draft.options.storage.disks.map { ($0.device, 0, 0) }
  }

  /// The name of a part of the ledger.
  func ledgerName(_ index: Int, _ name: String) -> UnsafePointer<CChar> {
    Self.text(index, of: &ledgerNames).pointer(to: name)
  }

  /// The name of a disk.
  func diskName(_ index: Int, _ name: String) -> UnsafePointer<CChar> {
    Self.text(index, of: &diskNames).pointer(to: name)
  }

  private static func text(_ index: Int, of texts: inout [OwnedText]) -> OwnedText {
    while texts.count <= index { texts.append(OwnedText()) }
    return texts[index]
  }
}

/// Behind `swo_qmp`.
final class QMPHandle {
  let client: QMPClient
  private weak var owner: Loop?
  let reply = OwnedText()

  init(_ client: QMPClient, in loop: Loop) {
    self.client = client
    owner = loop
    client.handle = self
  }

  deinit { client.close() }

  func loop() throws(CallFailure) -> Loop {
    guard let owner else { throw .closed }
    if owner.isForeign { throw .forked }
    return owner
  }
}

/// Behind `swo_event`.
final class EventHandle {
  let event: LoopEvent
  let text = OwnedText()
  let name = OwnedText()
  let json = OwnedText()

  init(_ event: LoopEvent) { self.event = event }
}

/// The object behind a handle.
func object<Object: AnyObject>(
  _ handle: OpaquePointer?, _ type: Object.Type = Object.self
) throws(CallFailure) -> Object {
  guard let handle else { throw .invalid("the handle is NULL") }
  return Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

/// A handle that owns its object.
func handle(owning object: AnyObject) -> OpaquePointer {
  OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

/// A handle that somebody else owns; NULL when it is freed.
func handle(borrowing object: AnyObject?) -> OpaquePointer? {
  object.map { OpaquePointer(Unmanaged.passUnretained($0).toOpaque()) }
}

/// Gives up the ownership that `handle(owning:)` handed out.
func release<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type) {
  guard let handle else { return }
  Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).release()
}
