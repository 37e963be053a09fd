import MigrationEngine

/// Where to log in, how to know the server, and by what.
public struct SSHConfiguration {
  /// The name that the user gave, for known_hosts and for messages; never resolved here.
  public var host: String
  /// The server's port.
  public var port: UInt16
  /// The user on the server.
  public var user: String
  /// How the server proves to be the right one.
  public var hostKeyRule: HostKeyRule
  /// The agent's unix socket, as `SSH_AUTH_SOCK` names it; nil to ask none. Its keys come first.
  public var agentSocket: String?
  /// Private keys to try, in this order.
  public var keyFiles: [KeyFile]
  public var limits = Limits()
  /// What libssh2 can do; a test may say otherwise than it is.
  public var library = SSHLibrary.loaded

  /// How the server proves to be the right one. There is no way to accept just any key.
  public enum HostKeyRule {
    /// By known_hosts files, the user's before the system's; files that are missing count as empty.
    /// Under an alias the host is looked up by that name alone, without its port.
    case knownHosts(files: [String], alias: String?)
    /// By one fingerprint as OpenSSH prints it (`SHA256:…`).
    case pinned(fingerprint: String)
  }

  /// A private key in a file.
  public struct KeyFile {
    public var path: String
    /// Nil if the key has none, or it is not known.
    public var passphrase: SecretBytes?

    public init(path: String, passphrase: SecretBytes? = nil) {
      self.path = path
      self.passphrase = passphrase
    }
  }

  /// What bounds a connection, whatever the server does.
  public struct Limits {
    /// From the first step to the end of the key exchange.
    public var handshake = Span.seconds(15)
    /// From there to the end of the login.
    public var authentication = Span.seconds(30)
    /// For a channel to open and, with a command, to start it. libssh2 itself gives up after 60
    /// seconds, and opens one channel after the other.
    public var channelOpening = Span.seconds(20)
    /// For a channel or the connection to be closed in good form.
    public var closing = Span.seconds(5)
    /// How long the server may be silent before it is asked for a sign of life.
    public var keepaliveInterval = Span.seconds(15)
    /// How long it may be silent at all. The connection is lost then.
    public var silence = Span.seconds(60)
    /// How many channels there may be at once: more than the 255 of QEMU's multifd, of which not one may
    /// be refused. QEMU 10.0 dies of that now and then (an assertion in its `yank.c`).
    public var channels = 288
    /// How much a server may send on one channel before its reader takes it, in bytes.
    public var channelWindow = 2 << 20
    /// How much may wait for the socket before `write` takes no more, in bytes.
    public var output = 256 << 10
    /// How much is received in one step, in bytes.
    public var inputPerStep = 256 << 10

    public init() {}
  }

  /// What `loadFiles` has read; nil: each connection reads for itself.
  var files: LoadedFiles?

  /// Reads the known_hosts files and the private keys for all connections to come, and **blocks** as
  /// long as that takes.
  public mutating func loadFiles() { files = LoadedFiles(self) }

  /// What a connection needs of files.
  struct LoadedFiles {
    let knownHosts: KnownHosts?
    let keys: [PrivateKeyFile.Loading]

    init(_ configuration: SSHConfiguration) {
      if case .knownHosts(let files, let alias) = configuration.hostKeyRule {
        knownHosts = KnownHosts(
          files: files, host: configuration.host, port: configuration.port, alias: alias)
      } else {
        knownHosts = nil
      }
      keys = configuration.keyFiles.map(PrivateKeyFile.load)
    }
  }

  public init(host: String, port: UInt16 = 22, user: String, hostKeyRule: HostKeyRule) {
    self.host = host
    self.port = port
    self.user = user
    self.hostKeyRule = hostKeyRule
    keyFiles = []
  }

  var endpoint: String { "\(user)@\(host):\(port)" }
}
