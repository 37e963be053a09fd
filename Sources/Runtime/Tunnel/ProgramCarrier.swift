import MigrationEngine
import MigrationSession
import Platform

/// A login by the system's ssh, a child of ours.
///
/// It listens by itself at sockets in the private directory; what comes there does not pass through
/// this process. A command on the other host says that all of that is set up, and ends with its
/// input: so ssh ends when this process does, however that happens.
final class ProgramCarrier: LoopMember, Carrier {
  private static let marker = "libswitchover is connected"
  private static let outputLimit = 64 << 10
  private static let errorLimit = 16 << 10
  /// Lines of ssh's that are passed on in the life of one login.
  private static let remarkLimit = 64
  private static let endLimitMilliseconds: Int32 = 500

  weak var owner: (any CarrierOwner)?
  private(set) var name = "ssh"
  private(set) var isReady = false

  private let settings: SSHSettings
  private let forwards: [Forward]
  private let directory: PrivateDirectory
  private var child: ChildProcess?
  private var exitWatch: DescriptorWatch?
  /// ssh's input and output, and its errors.
  private var session: DescriptorWatch?
  private var errors: DescriptorWatch?
  private var output: [UInt8] = []
  private var errorText: [UInt8] = []
  private var remarks = 0

  /// - Parameter forwards: the monitor's among them.
  init(
    _ settings: SSHSettings, forwards: [Forward], directory: PrivateDirectory, in loop: Loop
  ) {
    self.settings = settings
    self.forwards = forwards
    self.directory = directory
    super.init(in: loop)
  }

  func open() {
    do throws(SystemError) {
      try start()
    } catch {
      fail("it could not be started: \(error)")
    }
  }

  func connect(_ stream: Stream, to path: String) {
    do throws(SystemError) {
      guard isReady, let forward = forwards.first(where: { $0.path == path }) else {
        throw .notConnected
      }
      let address = try SocketAddress(unixPath: directory.socketPath(forward.localName))
      let made = try StreamSocket.connect(to: address)
      stream.deliver(made.descriptor) { [weak self] in
        "the server could not connect to \(path)\(self?.lastRemark ?? "")"
      }
    } catch {
      stream.refuse(.other(text: "ssh's own socket: \(error)"))
    }
  }

  override func closeStreams() {
    isReady = false
    for watch in [exitWatch, session, errors] { watch?.stop() }
    session?.descriptor.close()
    errors?.descriptor.close()
    exitWatch = nil
    session = nil
    errors = nil
    child?.end(withinMilliseconds: Self.endLimitMilliseconds)
    child = nil
    owner = nil
  }

  // MARK: - Starting

  private func start() throws(SystemError) {
    guard let loop else { return }
    var paths: [(local: String, remote: String)] = []
    for forward in forwards {
      paths.append((try directory.socketPath(forward.localName), forward.path))
    }
    var options = ["ConnectTimeout=\(max(1, settings.loginLimit.milliseconds / 1000))"]
    if let ciphers = settings.ciphers {
      options.append("Ciphers=\(ciphers)")
      name = "ssh, \(ciphers.prefix { $0 != "," })"
    }
    let arguments = settings.command.arguments(
      options: options, forwards: paths, remoteCommand: "echo '\(Self.marker)' && exec cat")
    let (ours, theirs) = try StreamSocket.pair()
    let (oursForErrors, theirsForErrors) = try StreamSocket.pair()
    let child = try ChildProcess(
      arguments: arguments, input: theirs.number, output: theirs.number,
      error: theirsForErrors.number)
    theirs.close()
    theirsForErrors.close()
    self.child = child
    session = try DescriptorWatch(ours, .readable, in: loop) { [weak self] _ in self?.hear() }
    errors = try DescriptorWatch(oursForErrors, .readable, in: loop) { [weak self] _ in
      self?.hearErrors()
    }
    if let exit = child.exitDescriptor {
      exitWatch = try DescriptorWatch(exit, .readable, in: loop) { [weak self] _ in
        self?.ended()
      }
    }
    let deadline = MonotonicInstant(nanoseconds: MonotonicClock.now) + settings.loginLimit
    loop.setDeadline(self, deadline.nanoseconds)
  }

  override func deadlineReached() {
    if !isReady { fail("it did not log in in time\(lastRemark)") }
  }

  // MARK: - What ssh says

  private func hear() {
    guard let session else { return }
    guard let bytes = Self.receive(session.descriptor) else { return ended() }
    guard !isReady else { return }
    output += bytes
    guard output.count <= Self.outputLimit else {
      return fail("the login's shell says too much before it runs a command")
    }
    let lines = String(decoding: output, as: UTF8.self).split(whereSeparator: \.isNewline)
    guard lines.contains(where: { $0 == Self.marker }) else { return }
    output = []
    isReady = true
    loop?.setDeadline(self, nil)
    owner?.carrierOpened(self)
  }

  private func hearErrors() {
    guard let errors, let bytes = Self.receive(errors.descriptor) else {
      errors?.stop()
      return
    }
    errorText += bytes
    if errorText.count > Self.errorLimit {
      errorText.removeFirst(errorText.count - Self.errorLimit)
    }
    guard isReady else { return }
    for line in SSHWords.lines(of: String(decoding: bytes, as: UTF8.self))
    where remarks < Self.remarkLimit {
      remarks += 1
      owner?.carrierSaid("ssh: \(line)", isWarning: true)
    }
  }

  /// The child has ended, or has closed its output, which comes to the same.
  private func ended() {
    drainErrors()
    let words = SSHWords.essence(of: String(decoding: errorText, as: UTF8.self))
    fail(isReady ? "ssh ended: \(words)" : words)
  }

  private func fail(_ text: String) {
    guard let owner else { return }
    close()
    owner.carrierFailed(self, "ssh \(settings.destination): \(text)")
  }

  /// The newest of ssh's words, which came before what they are about.
  private var lastRemark: String {
    drainErrors()
    let last = SSHWords.lines(of: String(decoding: errorText, as: UTF8.self)).last
    return last.map { " (\($0))" } ?? ""
  }

  private func drainErrors() {
    while let errors, let bytes = Self.receive(errors.descriptor), !bytes.isEmpty {
      errorText += bytes
      if errorText.count > Self.errorLimit { return }
    }
  }

  /// What is there; nil at the end.
  private static func receive(_ descriptor: Descriptor) -> [UInt8]? {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { room in
      switch (try? StreamSocket.receive(descriptor, into: room)) ?? .endOfStream {
      case .moved(let count): Array(room[..<count])
      case .wouldBlock: []
      case .endOfStream: nil
      }
    }
  }
}
