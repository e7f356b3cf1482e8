/* An SCTP end on usrsctp that speaks frames on standard input and output:
 * length (32 bits, big-endian, of what follows), kind (8 bits), body.
 * In:  0 packet, 1 message: stream (16), unordered (8), retransmissions (16, 65535 unlimited), data,
 *      2 connect, 3 reset: stream (16), 4 shutdown.
 * Out: 0 packet, 1 message: stream (16), data, 2 association is up, 3 stream was reset by the peer: stream (16).
 * Argument 1: 1 for I-DATA. Argument 2: the least retransmission timeout in milliseconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <usrsctp.h>

#ifndef SCTP_INTERLEAVING_SUPPORTED /* Missing from the public header, known to the stack. */
#define SCTP_INTERLEAVING_SUPPORTED 0x00001206
#endif

static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;
static char self; /* Its address names this end. */
static struct socket *listener, *sock;

static void put(uint8_t kind, const void *head, size_t head_len, const void *body, size_t len)
{
	uint32_t total = htonl((uint32_t)(1 + head_len + len));
	pthread_mutex_lock(&out_lock);
	fwrite(&total, 4, 1, stdout);
	fwrite(&kind, 1, 1, stdout);
	if (head_len)
		fwrite(head, head_len, 1, stdout);
	if (len)
		fwrite(body, len, 1, stdout);
	fflush(stdout);
	pthread_mutex_unlock(&out_lock);
}

static int output(void *addr, void *buffer, size_t length, uint8_t tos, uint8_t set_df)
{
	(void)addr, (void)tos, (void)set_df;
	put(0, NULL, 0, buffer, length);
	return 0;
}

static void notify(const union sctp_notification *n)
{
	if (n->sn_header.sn_type == SCTP_ASSOC_CHANGE && n->sn_assoc_change.sac_state == SCTP_COMM_UP)
		put(2, NULL, 0, NULL, 0);
	if (n->sn_header.sn_type == SCTP_STREAM_RESET_EVENT) {
		const struct sctp_stream_reset_event *e = &n->sn_strreset_event;
		size_t i, count = (e->strreset_length - sizeof(*e)) / sizeof(uint16_t);
		if (e->strreset_flags & SCTP_STREAM_RESET_INCOMING_SSN)
			for (i = 0; i < count; i++) {
				uint16_t stream = htons(e->strreset_stream_list[i]);
				put(3, &stream, 2, NULL, 0);
			}
	}
}

/* Messages may come in pieces: they are put together per stream. */
static struct { unsigned char *bytes; size_t len; } pieces[65536];

static int receive(struct socket *s, union sctp_sockstore from, void *data, size_t len,
                   struct sctp_rcvinfo info, int flags, void *arg)
{
	(void)from, (void)arg;
	if (!data)
		return 1;
	sock = s;
	if (flags & MSG_NOTIFICATION) {
		notify(data);
	} else {
		uint16_t at = info.rcv_sid, stream = htons(info.rcv_sid);
		pieces[at].bytes = realloc(pieces[at].bytes, pieces[at].len + len);
		memcpy(pieces[at].bytes + pieces[at].len, data, len);
		pieces[at].len += len;
		if (flags & MSG_EOR) {
			put(1, &stream, 2, pieces[at].bytes, pieces[at].len);
			pieces[at].len = 0;
		}
	}
	free(data);
	return 1;
}

static void set(struct socket *s, int name, const void *value, socklen_t len)
{
	if (usrsctp_setsockopt(s, IPPROTO_SCTP, name, value, len) < 0) {
		perror("setsockopt");
		exit(2);
	}
}

static struct socket *make(int interleave)
{
	uint16_t events[] = { SCTP_ASSOC_CHANGE, SCTP_STREAM_RESET_EVENT };
	struct sctp_assoc_value reset = { SCTP_ALL_ASSOC, SCTP_ENABLE_RESET_STREAM_REQ | SCTP_ENABLE_CHANGE_ASSOC_REQ };
	struct sctp_initmsg init = { 1024, 1024, 8, 1000 };
	struct sockaddr_conn address;
	int on = 1, big = 8 << 20;
	size_t i;
	struct socket *s = usrsctp_socket(AF_CONN, SOCK_STREAM, IPPROTO_SCTP, receive, NULL, 0, NULL);
	if (!s) {
		perror("socket");
		exit(2);
	}
	set(s, SCTP_NODELAY, &on, sizeof(on));
	set(s, SCTP_ENABLE_STREAM_RESET, &reset, sizeof(reset));
	set(s, SCTP_INITMSG, &init, sizeof(init));
	if (interleave) {
		struct sctp_assoc_value value = { SCTP_ALL_ASSOC, 1 };
		int two = 2;
		set(s, SCTP_FRAGMENT_INTERLEAVE, &two, sizeof(two));
		set(s, SCTP_INTERLEAVING_SUPPORTED, &value, sizeof(value));
	}
	for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct sctp_event event = { SCTP_ALL_ASSOC, events[i], 1 };
		set(s, SCTP_EVENT, &event, sizeof(event));
	}
	usrsctp_setsockopt(s, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
	usrsctp_setsockopt(s, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	memset(&address, 0, sizeof(address));
	address.sconn_family = AF_CONN;
	address.sconn_port = htons(5000);
	address.sconn_addr = &self;
	if (usrsctp_bind(s, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror("bind");
		exit(2);
	}
	return s;
}

static void *connect_now(void *s)
{
	struct sockaddr_conn address;
	memset(&address, 0, sizeof(address));
	address.sconn_family = AF_CONN;
	address.sconn_port = htons(5000);
	address.sconn_addr = &self;
	usrsctp_connect(s, (struct sockaddr *)&address, sizeof(address));
	return NULL;
}

/* Messages to be sent wait here for a thread of their own, because sending blocks. */
struct job { struct job *next; uint32_t len; unsigned char body[]; };
static struct job *first, *last;
static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_there = PTHREAD_COND_INITIALIZER;

static void *sender(void *arg)
{
	(void)arg;
	for (;;) {
		struct job *job;
		struct sctp_sendv_spa spa;
		pthread_mutex_lock(&job_lock);
		while (!first)
			pthread_cond_wait(&job_there, &job_lock);
		job = first;
		first = job->next;
		if (!first)
			last = NULL;
		pthread_mutex_unlock(&job_lock);
		if (job->body[0] == 3) {
			struct { struct sctp_reset_streams head; uint16_t list[1]; } reset;
			memset(&reset, 0, sizeof(reset));
			reset.head.srs_flags = SCTP_STREAM_RESET_OUTGOING;
			reset.head.srs_number_streams = 1;
			reset.head.srs_stream_list[0] = (uint16_t)(job->body[1] << 8 | job->body[2]);
			while (usrsctp_setsockopt(sock, IPPROTO_SCTP, SCTP_RESET_STREAMS, &reset.head, sizeof(struct sctp_reset_streams) + 2) < 0)
				usleep(20000);
			free(job);
			continue;
		}
		memset(&spa, 0, sizeof(spa));
		spa.sendv_flags = SCTP_SEND_SNDINFO_VALID;
		spa.sendv_sndinfo.snd_sid = (uint16_t)(job->body[1] << 8 | job->body[2]);
		spa.sendv_sndinfo.snd_flags = SCTP_EOR | (job->body[3] ? SCTP_UNORDERED : 0);
		spa.sendv_sndinfo.snd_ppid = htonl(53);
		if (job->body[4] != 255 || job->body[5] != 255) {
			spa.sendv_flags |= SCTP_SEND_PRINFO_VALID;
			spa.sendv_prinfo.pr_policy = SCTP_PR_SCTP_RTX;
			spa.sendv_prinfo.pr_value = (uint32_t)(job->body[4] << 8 | job->body[5]);
		}
		while (usrsctp_sendv(sock, job->body + 6, job->len - 6, NULL, 0, &spa, sizeof(spa), SCTP_SENDV_SPA, 0) < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
				perror("sendv");
				break;
			}
			usleep(1000);
		}
		free(job);
	}
	return NULL;
}

static int get(void *bytes, size_t len)
{
	return fread(bytes, 1, len, stdin) == len;
}

int main(int argc, char **argv)
{
	int interleave = argc > 1 && argv[1][0] == '1';
	pthread_t thread;
	uint32_t len;
	static char in_buffer[1 << 20];
	setvbuf(stdin, in_buffer, _IOFBF, sizeof(in_buffer));
	usrsctp_init(0, output, NULL);
	usrsctp_sysctl_set_sctp_blackhole(2);
	usrsctp_sysctl_set_sctp_ecn_enable(0);
	usrsctp_sysctl_set_sctp_rto_min_default(argc > 2 ? (uint32_t)atoi(argv[2]) : 300);
	usrsctp_sysctl_set_sctp_sendspace(8 << 20);
	usrsctp_sysctl_set_sctp_recvspace(8 << 20);
	usrsctp_register_address(&self);
	listener = make(interleave);
	usrsctp_set_non_blocking(listener, 0);
	pthread_create(&thread, NULL, sender, NULL);
	int listening = 0;
	while (get(&len, 4)) {
		struct job *job;
		len = ntohl(len);
		job = malloc(sizeof(*job) + len);
		job->len = len;
		job->next = NULL;
		if (!get(job->body, len))
			break;
		switch (job->body[0]) {
		case 0:
			if (!listening && !sock) {
				/* The peer speaks first. */
				usrsctp_listen(listener, 1);
				listening = 1;
			}
			usrsctp_conninput(&self, job->body + 1, len - 1, 0);
			free(job);
			break;
		case 2:
			sock = listener;
			pthread_create(&thread, NULL, connect_now, listener);
			free(job);
			break;
		case 4:
			usrsctp_shutdown(sock, SHUT_RDWR);
			free(job);
			break;
		default:
			pthread_mutex_lock(&job_lock);
			if (last)
				last->next = job;
			else
				first = job;
			last = job;
			pthread_cond_signal(&job_there);
			pthread_mutex_unlock(&job_lock);
		}
	}
	_exit(0);
}
