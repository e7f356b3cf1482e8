// A meeting that one is in: LiveKit's room on one side, signals for the page on the other.
import { batch, computed, signal } from '@preact/signals';
import {
  ConnectionState, DisconnectReason, ExternalE2EEKeyProvider, Room, RoomEvent, Track,
  type LocalTrack, type Participant, type RemoteTrack, type TrackPublication,
} from 'livekit-client';
import EncryptionWorker from 'livekit-client/e2ee-worker?worker';
import * as server from '../lib/api';
import { chime } from '../lib/chime';
import { cameraOptions, microphoneOptions } from '../lib/devices';
import { explainDevice, explainEnd, explainJoin, type Explanation } from '../lib/errors';
import { chosen, displayName } from '../lib/storage';
import { FILE_TOPIC, Files, type SharedFile } from './files';
import { Hush } from './hush';
import { Lanes } from './lanes';
import { Peer } from './peer';
import { Roster } from './roster';
import { Watch } from './watch';

export type Phase = 'joining' | 'connected' | 'reconnecting' | 'ended';

export interface Message {
  id: string;
  from: string;
  name: string;
  own: boolean;
  at: number;
  text?: string;
  file?: SharedFile;
}

export interface Reaction {
  id: number;
  emoji: string;
  name: string;
  /** Where it rises, counted from the left, and after how many milliseconds. */
  lane: number;
  delay: number;
}

export interface Notice {
  id: number;
  text: string;
  kind: 'info' | 'warn' | 'bad';
  action?: { label: string; run: () => void };
}

export const REACTIONS = ['👍', '❤️', '😂', '🎉', '👏', '🤔'];

const CHAT_TOPIC = 'lk.chat';
const REACTION_TOPIC = 'reaction';
/** Messages kept at most. */
const MESSAGES = 1000;
/** How long a reaction is seen, in milliseconds: as long as style.css moves it. */
const REACTION = 4000;
/** How long a camera is let go of before it is taken again, in milliseconds. */
const RELEASE = 1000;

export class Session {
  readonly room: Room;
  readonly phase = signal<Phase>('joining');
  /** Why joining failed or the meeting ended; nothing if one left by choice. */
  readonly problem = signal<Explanation | undefined>(undefined);
  readonly self: Peer;
  readonly roster: Roster;
  readonly everyone = computed(() => [this.self, ...this.roster.others.value]);
  readonly speaker = signal<string | undefined>(undefined);
  /** Whose screens are shared, oldest first. */
  readonly screens = signal<string[]>([]);
  readonly messages = signal<Message[]>([]);
  readonly unread = signal(0);
  readonly reactions = signal<Reaction[]>([]);
  /** Where motion is not wanted they stand still, each in a lane of its own. */
  private readonly lanes = matchMedia('(prefers-reduced-motion: reduce)').matches ? new Lanes(REACTION, 0) : new Lanes();
  readonly notices = signal<Notice[]>([]);
  /** Read out to those who do not see. */
  readonly announcement = signal('');
  /** The browser plays sound only after a click. */
  readonly silent = signal(false);
  /** One may mute and remove others: the first to come, as long as they stay. */
  readonly host = signal(false);
  readonly encrypted: boolean;
  readonly startedAt = Date.now();
  endedAt = 0;
  /** What one wants to send, which outlives the connection: coming back turns on nothing that was off. */
  readonly wanted = { microphone: false, camera: false };
  /** The room was entered, however it ended. */
  joined = false;
  readonly files: Files;
  readonly watch: Watch;
  /** The chat is on screen: new messages are not counted. */
  chatOpen = false;
  private readonly hush = new Hush(() => this.notify('info', 'You are talking, but your microphone is off: press M, or hold the space bar.'));
  private readonly audio: HTMLElement;
  private serial = 0;
  private worker: Worker | undefined;
  private keys: ExternalE2EEKeyProvider | undefined;
  private invitation: server.Joined | undefined;

  constructor(readonly roomName: string, private readonly key: string | undefined) {
    this.encrypted = key !== undefined;
    if (this.encrypted) {
      this.worker = new EncryptionWorker();
      this.keys = new ExternalE2EEKeyProvider();
    }
    this.room = new Room({
      adaptiveStream: { pixelDensity: 'screen' },
      dynacast: true,
      videoCaptureDefaults: cameraOptions(),
      audioCaptureDefaults: microphoneOptions(),
      publishDefaults: { videoCodec: 'vp8', simulcast: true, red: !this.encrypted, dtx: true },
      ...(chosen.speaker.value ? { audioOutput: { deviceId: chosen.speaker.value } } : {}),
      ...(this.worker && this.keys ? { encryption: { keyProvider: this.keys, worker: this.worker } } : {}),
    });
    this.self = new Peer(this.room.localParticipant);
    this.roster = new Roster(this.room.remoteParticipants, (peer) => {
      for (const publication of peer.participant.trackPublications.values()) this.checkKey(publication, peer);
    });
    this.audio = document.createElement('div');
    this.audio.hidden = true;
    document.body.append(this.audio);
    this.files = new Files(this.room, (file) => this.addFile(file));
    this.watch = new Watch(this);
    this.listen();
  }

  /** Joins, with what the lobby opened. */
  async join(tracks: { camera: LocalTrack | undefined; microphone: LocalTrack | undefined }): Promise<void> {
    this.wanted.microphone = tracks.microphone !== undefined;
    this.wanted.camera = tracks.camera !== undefined;
    try {
      const invitation = await server.join(this.roomName, displayName.value);
      this.invitation = invitation;
      if (this.key && this.keys) {
        await this.keys.setKey(this.key);
        await this.room.setE2EEEnabled(true);
      }
      await this.room.connect(invitation.url, invitation.token, { autoSubscribe: true, maxRetries: 2 });
    } catch (error) {
      tracks.camera?.stop();
      tracks.microphone?.stop();
      this.end(explainJoin(error));
      return;
    }
    this.joined = true;
    this.host.value = this.invitation?.host === true;
    batch(() => {
      this.roster.sync();
      this.phase.value = 'connected';
      this.self.refresh();
      this.arrange();
    });
    chime('join');
    this.watch.start();
    const publish = async (track: LocalTrack | undefined, source: Track.Source) => {
      if (!track) return;
      try {
        await this.room.localParticipant.publishTrack(track, { source });
      } catch (error) {
        this.notify('bad', `Your ${source === Track.Source.Camera ? 'camera' : 'microphone'} could not be sent. ${error instanceof Error ? error.message : ''}`);
      }
    };
    await Promise.all([publish(tracks.microphone, Track.Source.Microphone), publish(tracks.camera, Track.Source.Camera)]);
  }

  async leave(): Promise<void> {
    chime('leave');
    await this.room.disconnect(true);
    this.end(undefined);
  }

  async toggleMicrophone(on = !this.self.microphoneOn.value): Promise<void> {
    try {
      this.wanted.microphone = on;
      await this.room.localParticipant.setMicrophoneEnabled(on, microphoneOptions());
      this.announce(on ? 'Microphone on' : 'Microphone off');
    } catch (error) {
      this.explain(explainDevice(error, 'microphone'));
    }
  }

  async toggleCamera(on = !this.self.cameraOn.value): Promise<void> {
    try {
      this.wanted.camera = on;
      await this.room.localParticipant.setCameraEnabled(on, cameraOptions());
      this.announce(on ? 'Camera on' : 'Camera off');
    } catch (error) {
      this.explain(explainDevice(error, 'camera'));
    }
  }

  /** Lets go of the camera for as long as its driver may need to notice, and takes it again. */
  async restartCamera(): Promise<void> {
    await this.toggleCamera(false);
    await new Promise((resolve) => setTimeout(resolve, RELEASE));
    // Who has left meanwhile is not to be seen.
    if (this.phase.value !== 'ended') await this.toggleCamera(true);
  }

  async toggleScreen(on = !this.self.screenOn.value): Promise<void> {
    try {
      await this.room.localParticipant.setScreenShareEnabled(on, { audio: true, selfBrowserSurface: 'include', surfaceSwitching: 'include' });
    } catch (error) {
      const chose = error instanceof Error && error.name === 'NotAllowedError' && !/system/i.test(error.message);
      if (!chose) this.explain(explainDevice(error, 'screen'));
    }
  }

  async toggleHand(up = this.self.hand.value === 0): Promise<void> {
    const at = up ? Date.now() : 0;
    this.self.hand.value = at;
    try {
      await this.room.localParticipant.setAttributes({ handRaisedAt: up ? String(at) : '' });
    } catch {
      this.self.refresh();
      this.notify('warn', 'The server does not let you raise your hand here.');
    }
  }

  react(emoji: string): void {
    this.show(emoji, this.self);
    const bytes = new TextEncoder().encode(JSON.stringify({ emoji }));
    void this.room.localParticipant.publishData(bytes, { reliable: true, topic: REACTION_TOPIC }).catch(() => {});
  }

  async write(text: string): Promise<void> {
    const message: Message = { id: crypto.randomUUID(), from: this.self.identity, name: this.self.name.value, own: true, at: Date.now(), text };
    this.add(message);
    try {
      await this.room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
    } catch {
      this.notify('bad', 'The message could not be sent. Try again when the connection is back.');
    }
  }

  /** Silences somebody. Only they can speak up again. */
  async muteOther(peer: Peer): Promise<void> {
    const publication = peer.participant.getTrackPublication(Track.Source.Microphone);
    if (!publication || !this.invitation) return;
    try {
      await server.mute(this.invitation, peer.identity, publication.trackSid);
      this.announce(`${peer.name.value} is muted`);
    } catch (error) {
      this.notify('bad', `${peer.name.value} could not be muted. ${error instanceof Error ? error.message : ''}`);
    }
  }

  async muteOthers(): Promise<void> {
    await Promise.all(this.roster.others.value.filter((peer) => peer.microphoneOn.value).map((peer) => this.muteOther(peer)));
  }

  async removeOther(peer: Peer): Promise<void> {
    if (!this.invitation) return;
    try {
      await server.remove(this.invitation, peer.identity);
    } catch (error) {
      this.notify('bad', `${peer.name.value} could not be removed. ${error instanceof Error ? error.message : ''}`);
    }
  }

  async switchDevice(kind: MediaDeviceKind, id: string): Promise<void> {
    try {
      await this.room.switchActiveDevice(kind, id);
    } catch (error) {
      this.explain(explainDevice(error, kind === 'videoinput' ? 'camera' : kind === 'audioinput' ? 'microphone' : 'speaker'));
    }
  }

  /** Asked for by a click: the browser then plays sound. */
  async unlock(): Promise<void> {
    await this.room.startAudio().catch(() => {});
    await this.room.startVideo().catch(() => {});
    this.silent.value = !this.room.canPlaybackAudio;
  }

  peer(identity: string): Peer | undefined {
    return identity === 'self' || identity === this.room.localParticipant.identity ? this.self : this.roster.get(identity);
  }

  notify(kind: Notice['kind'], text: string, action?: Notice['action']): void {
    if (this.notices.value.some((notice) => notice.text === text)) return;
    const id = ++this.serial;
    this.notices.value = [...this.notices.value.slice(-2), { id, text, kind, ...(action ? { action } : {}) }];
    setTimeout(() => this.dismiss(id), action ? 30_000 : kind === 'info' ? 4000 : 9000);
  }

  dismiss(id: number): void {
    this.notices.value = this.notices.value.filter((notice) => notice.id !== id);
  }

  explain(explanation: Explanation): void {
    this.notify('bad', `${explanation.title}. ${explanation.advice}`);
  }

  announce(text: string): void {
    this.announcement.value = text;
  }

  private end(problem: Explanation | undefined): void {
    if (this.phase.value === 'ended') return;
    this.endedAt = Date.now();
    batch(() => {
      this.problem.value = problem;
      this.phase.value = 'ended';
    });
    this.watch.stop();
    this.hush.follow(undefined);
    this.files.close();
    this.audio.remove();
    this.worker?.terminate();
  }

  private listenWhileMuted(): void {
    const track = this.room.localParticipant.getTrackPublication(Track.Source.Microphone)?.track;
    this.hush.follow(track && !this.self.microphoneOn.value && !this.room.localParticipant.isMicrophoneEnabled ? track.mediaStreamTrack : undefined);
  }

  private refresh(participant: Participant): void {
    batch(() => {
      if (participant.isLocal) this.self.refresh();
      else this.roster.refresh(participant);
      this.arrange();
    });
  }

  /** Keeps the order of shared screens: those that go out, those that come in last. */
  private arrange(): void {
    const sharing = this.everyone.peek().filter((peer) => peer.screenOn.peek()).map((peer) => peer.identity);
    const kept = this.screens.peek().filter((identity) => sharing.includes(identity));
    const next = [...kept, ...sharing.filter((identity) => !kept.includes(identity))];
    if (next.join() !== this.screens.peek().join()) this.screens.value = next;
  }

  private add(message: Message): void {
    this.messages.value = [...this.messages.value.slice(1 - MESSAGES), message];
    if (!message.own && !this.chatOpen) {
      this.unread.value++;
      chime('message');
    }
    if (!message.own) this.announce(`${message.name}: ${message.text ?? `offers the file ${message.file?.name}`}`);
  }

  private addFile(file: SharedFile): void {
    const peer = this.peer(file.owner);
    this.add({ id: file.id, from: peer?.identity ?? file.owner, name: peer?.name.value ?? 'Guest', own: file.own, at: Date.now(), file });
  }

  private show(emoji: string, peer: Peer): void {
    const place = this.lanes.place(performance.now());
    if (!place) return;
    const id = ++this.serial;
    this.reactions.value = [...this.reactions.value, { id, emoji, name: peer.isLocal ? 'You' : peer.name.value, ...place }];
    setTimeout(() => (this.reactions.value = this.reactions.value.filter((other) => other.id !== id)), REACTION + place.delay);
  }

  private listen(): void {
    const { room } = this;
    const again = (_: unknown, participant: Participant) => this.refresh(participant);
    room
      .on(RoomEvent.ParticipantConnected, (participant) => {
        this.refresh(participant);
        this.files.greet(participant.identity);
        if (this.phase.value === 'connected') {
          chime('join');
          this.announce(`${participant.name || 'Guest'} joined`);
          if (this.roster.others.value.length > 1) this.notify('info', `${participant.name || 'Guest'} joined`);
        }
      })
      .on(RoomEvent.ParticipantDisconnected, (participant) => {
        const isGone = batch(() => {
          const isGone = this.roster.leave(participant);
          this.arrange();
          return isGone;
        });
        if (!isGone) return;
        this.files.gone(participant.identity);
        chime('leave');
        this.announce(`${participant.name || 'Guest'} left`);
        this.notify('info', `${participant.name || 'Guest'} left`);
      })
      .on(RoomEvent.TrackSubscribed, (track, _, participant) => {
        if (track.kind === Track.Kind.Audio) this.audio.append(track.attach());
        this.refresh(participant);
      })
      .on(RoomEvent.TrackUnsubscribed, (track: RemoteTrack, _, participant) => {
        for (const element of track.detach()) if (track.kind === Track.Kind.Audio) element.remove();
        this.refresh(participant);
      })
      .on(RoomEvent.TrackPublished, (publication, participant) => {
        this.refresh(participant);
        this.checkKey(publication, this.roster.get(participant.identity));
      })
      .on(RoomEvent.TrackUnpublished, again)
      .on(RoomEvent.TrackMuted, (publication, participant) => {
        this.refresh(participant);
        if (!participant.isLocal || publication.source !== Track.Source.Microphone) return;
        this.listenWhileMuted();
        // One did not do it oneself.
        if (this.wanted.microphone) {
          this.wanted.microphone = false;
          this.notify('warn', 'The host has muted you. Press M to speak.');
          this.announce('The host has muted you');
        }
      })
      .on(RoomEvent.TrackUnmuted, (publication, participant) => {
        this.refresh(participant);
        if (participant.isLocal && publication.source === Track.Source.Microphone) this.listenWhileMuted();
      })
      .on(RoomEvent.LocalTrackPublished, again)
      .on(RoomEvent.LocalTrackUnpublished, again)
      .on(RoomEvent.TrackStreamStateChanged, (_, __, participant) => this.refresh(participant))
      .on(RoomEvent.ConnectionQualityChanged, again)
      .on(RoomEvent.ParticipantNameChanged, again)
      .on(RoomEvent.ParticipantAttributesChanged, (changed, participant) => {
        const peer = participant.isLocal ? this.self : this.roster.get(participant.identity);
        const before = peer?.hand.value ?? 0;
        this.refresh(participant);
        if (!participant.isLocal && 'handRaisedAt' in changed && before === 0 && (peer?.hand.value ?? 0) > 0) {
          chime('hand');
          this.announce(`${participant.name} raised a hand`);
          this.notify('info', `${participant.name} raised a hand`);
        }
      })
      .on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
        const speaking = new Set(speakers.map((participant) => participant.identity));
        batch(() => {
          for (const peer of this.everyone.peek()) {
            peer.speaking.value = speaking.has(peer.isLocal ? room.localParticipant.identity : peer.identity);
            if (peer.speaking.value) peer.spoke = Date.now();
          }
          const loudest = speakers.find((participant) => !participant.isLocal);
          if (loudest) this.speaker.value = loudest.identity;
        });
      })
      .on(RoomEvent.DataReceived, (payload, participant, _kind, topic) => {
        if (!participant) return;
        if (topic === FILE_TOPIC) this.files.heard(payload, participant.identity);
        if (topic === REACTION_TOPIC) {
          try {
            const { emoji } = JSON.parse(new TextDecoder().decode(payload)) as { emoji?: string };
            const peer = this.roster.get(participant.identity);
            if (peer && typeof emoji === 'string' && REACTIONS.includes(emoji)) {
              this.show(emoji, peer);
              this.announce(`${peer.name.value} reacts with ${emoji}`);
            }
          } catch {
            // Not a reaction.
          }
        }
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => (this.silent.value = !room.canPlaybackAudio))
      .on(RoomEvent.MediaDevicesError, (error, kind) => {
        if (kind) this.explain(explainDevice(error, kind === 'videoinput' ? 'camera' : 'microphone'));
      })
      .on(RoomEvent.EncryptionError, (_, participant) => {
        const peer = participant && this.roster.get(participant.identity);
        if (peer && !peer.unreadable.value) {
          peer.unreadable.value = true;
          this.notify('bad', `${peer.name.value} uses another encryption key. Send them the whole invite link of this meeting, or open theirs.`);
        }
      })
      .on(RoomEvent.ConnectionStateChanged, (state) => {
        if (this.phase.value === 'joining' || this.phase.value === 'ended') return;
        if (state === ConnectionState.Reconnecting || state === ConnectionState.SignalReconnecting) {
          if (this.phase.value !== 'reconnecting') this.announce('Connection lost, reconnecting');
          this.phase.value = 'reconnecting';
        }
        if (state === ConnectionState.Connected) {
          if (this.phase.value === 'reconnecting') this.announce('Connected again');
          this.phase.value = 'connected';
          batch(() => {
            this.roster.sync();
            this.self.refresh();
            this.arrange();
          });
        }
      })
      .on(RoomEvent.Disconnected, (reason) => {
        if (this.phase.value !== 'joining') this.end(explainEnd(reason === undefined ? undefined : DisconnectReason[reason]));
      });

    room.registerTextStreamHandler(CHAT_TOPIC, (reader, { identity }) => {
      void reader.readAll().then((text) => {
        const name = this.peer(identity)?.name.value ?? 'Guest';
        this.add({ id: reader.info.id, from: identity, name, own: false, at: Date.now(), text });
      }, () => {});
    });
  }

  /** Says, once, that a key is needed to see and hear somebody. */
  private checkKey(publication: TrackPublication, peer: Peer | undefined): void {
    if (!peer || !publication.isEncrypted || this.encrypted || peer.unreadable.value) return;
    if (!this.roster.others.value.some((other) => other.unreadable.value)) {
      this.notify('bad', 'This meeting is end-to-end encrypted. To see and hear it, open the whole invite link, with what follows the # sign.');
    }
    peer.unreadable.value = true;
  }
}
