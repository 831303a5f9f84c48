package main

import netsmtp "net/smtp"

type netSender struct {
	client *netsmtp.Client
	text   []byte
}

func dialNet(addr string, load workload) (sender, error) {
	c, err := netsmtp.Dial(addr)
	if err != nil {
		return nil, err
	}
	return &netSender{c, load.text()}, nil
}

func (s *netSender) Send(n int) error {
	for range n {
		if err := s.send(); err != nil {
			return err
		}
	}
	return nil
}

func (s *netSender) send() error {
	if err := s.client.Mail(mailFrom); err != nil {
		return err
	}
	if err := s.client.Rcpt(rcptTo); err != nil {
		return err
	}
	w, err := s.client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(s.text); err != nil {
		return err
	}
	return w.Close()
}

func (s *netSender) Close() error { return s.client.Quit() }
